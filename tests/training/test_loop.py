"""The training loop: history, averages, clipping, learning rates, and the refusal of a loss that is no number."""

import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError
from latentline.runtime.resume import ResumeFile
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch
from latentline.training.schedule import warmup_cosine, warmup_milestones, warmup_stable_decay
from support.training_run import NEVER, OPTIMIZER, Run, asked_to_stop, bytes_of, reference


def test_signals_work_as_before_once_the_training_is_over(workplace):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    reference(Run().fit)
    with pytest.raises(InterruptedRunError):
        Run(at_step=asked_to_stop(5)).fit()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_history_holds_one_row_per_epoch_with_the_means_of_the_logged_terms(workplace):
    run = Run()
    _, _, history = run.fit()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(row["double"] == pytest.approx(2 * row["loss"]) for row in history)
    assert run.epochs_reported == [(1, False), (2, False), (3, False)]  # in evaluation mode


def test_the_averaged_weights_are_the_ones_to_be_used(workplace):
    (network, average), used, _ = Run((0.99,)).fit()
    assert used is average
    assert not used.training
    assert not torch.equal(used[0].weight, network[0].weight)
    (plain_network,), plain_used, _ = Run().fit()
    assert plain_used is plain_network


def test_averages_of_several_lengths_are_each_the_one_that_is_kept_alone(workplace):
    (_, short, long), used, history = Run((0.5, 0.99)).fit()
    (_, short_alone), _, history_alone = Run((0.5,)).fit()
    (_, long_alone), _, _ = Run((0.99,)).fit()
    assert bytes_of(short, long) == bytes_of(short_alone, long_alone)
    assert used is short
    assert history == history_alone


def test_training_lowers_the_loss(workplace):
    _, _, history = Run(epochs=40).fit()
    assert history[-1]["loss"] < history[0]["loss"] / 2


def test_averaging_does_not_disturb_the_training(workplace):
    assert bytes_of(Run((0.99,)).fit()[0][0]) == bytes_of(Run().fit()[0][0])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_with_section_step_and_remedy(workplace, number):
    network = nn.Linear(2, 1)

    def loss(step: int) -> list[MicroBatch]:
        value = network(torch.ones(1, 2)).sum() * (number if step == 3 else 1.0)
        return [(1.0, value, {"loss": value})]

    saving = Saving(ResumeFile("train_test", {}, ()), NEVER)
    with pytest.raises(UserError) as caught:
        fit(network, loss, TrainConfig("denoiser", 2, 4, OPTIMIZER, saving))
    for hint in ("denoiser:", "step 3", "denoiser.optimizer.lr"):
        assert hint in str(caught.value)
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_gradients_are_scaled_down_to_the_norm(workplace):
    network = nn.Linear(2, 1, bias=False)
    norms = []

    def loss(step: int) -> list[MicroBatch]:
        value = 1e4 * network(torch.ones(1, 2)).sum()
        return [(1.0, value, {"loss": value})]

    hook = torch.optim.AdamW.step

    def spy(self, *arguments):
        norms.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm().item())
        return hook(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        fit(network, loss, TrainConfig("x", 1, 2, OPTIMIZER, Saving(ResumeFile("x", {}, ()), NEVER)))
    assert norms == pytest.approx([1.0, 1.0], rel=1e-3)


def test_the_rate_follows_the_schedule_by_name(workplace):
    def rates(**settings: object) -> list[float]:
        network, used = nn.Linear(2, 1), []
        original = torch.optim.AdamW.step

        def spy(self, *arguments):
            used.append(self.param_groups[0]["lr"])
            return original(self, *arguments)

        def loss(step: int) -> list[MicroBatch]:
            return [(1.0, network(torch.ones(1, 2)).sum(), {})]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", spy)
            optimizer = replace(OPTIMIZER, **settings)
            fit(network, loss, TrainConfig("x", 3, 4, optimizer, Saving(ResumeFile("x", {}, ()), NEVER)))
        return used

    steps = range(12)
    assert rates() == [1e-2 * warmup_stable_decay(step, 12, 2, 0.4) for step in steps]
    assert rates(schedule="cosine") == [1e-2 * warmup_cosine(step, 12, 2) for step in steps]
    assert rates(schedule="milestones", milestones=[1, 2], gamma=0.5) == [
        1e-2 * warmup_milestones(step, 4, 2, [1, 2], 0.5) for step in steps
    ]
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        rates(schedule="linear")
