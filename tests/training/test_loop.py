import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError
from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.runtime.compute import to_device
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from latentline.training.optimizer import Optimizer
from latentline.training.schedule import warmup_cosine, warmup_milestones, warmup_stable_decay

EPOCHS, STEPS = 3, 4
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)
NEVER = 1e9  # seconds


@dataclass
class Run:
    """One training: a small network with all that can go wrong on a restart (running statistics, dropout, layouts)."""

    decays: tuple[float, ...] = ()
    save_every: float = NEVER
    epochs: int = EPOCHS
    at_step: Callable[[int], None] = lambda step: None
    optimizer: Optimizer = OPTIMIZER
    extendable: bool = False
    steps_done: list[int] = field(default_factory=list)
    seen_by_on_epoch: list[tuple[int, bool]] = field(default_factory=list)

    def fit(self) -> tuple[list[nn.Module], nn.Module, list[dict[str, float]]]:
        """(the network and its averages, the weights to be used, history)."""
        torch.manual_seed(7)
        layers = [
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64, 3),
        ]
        network = to_device(nn.Sequential(*layers), torch.device("cpu"))
        images, labels = torch.randn(20, 1, 6, 6, generator=generator(0, "images")), torch.arange(20) % 3
        order = EpochSampler(20, 5, seed=1)

        def loss(step: int) -> list[MicroBatch]:
            self.steps_done.append(step)
            self.at_step(step)
            torch.manual_seed(derive_seed(0, "dropout", step))
            rows = order.rows(step)
            value = F.cross_entropy(network(images[rows].contiguous(memory_format=torch.channels_last)), labels[rows])
            return [(1.0, value, {"loss": value, "double": 2 * value})]

        def on_epoch(used: nn.Module, epoch: int) -> dict[str, float]:
            self.seen_by_on_epoch.append((epoch, used.training))
            return {"val_loss": F.cross_entropy(used(images), labels).item()}

        file = ResumeFile("train_test", {"decays": self.decays}, ())
        saving = Saving(file, self.save_every, extendable=self.extendable)
        config = TrainConfig("test", self.epochs, STEPS, self.optimizer, saving)
        averages = [Ema(network, decay) for decay in self.decays]
        used, history = fit(network, loss, config, averages=averages, on_epoch=on_epoch)
        file.finish()
        return [network, *(average.model for average in averages)], used, history


def _bytes(*modules: nn.Module) -> list[dict[str, bytes]]:
    return [
        {name: tensor.contiguous().numpy().tobytes() for name, tensor in module.state_dict().items()}
        for module in modules
    ]


def _asked_to_stop(at: int, by: signal.Signals = signal.SIGTERM) -> Callable[[int], None]:
    def at_step(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), by)

    return at_step


def _killed(at: int) -> Callable[[int], None]:
    def at_step(step: int) -> None:
        if step == at:
            raise RuntimeError("killed")

    return at_step


def _assert_same(one, other) -> None:
    assert _bytes(*one[0]) == _bytes(*other[0])
    assert _bytes(one[1]) == _bytes(other[1])
    assert [list(row.items()) for row in one[2]] == [
        list(row.items()) for row in other[2]
    ]  # in the order of the table's columns, too


@pytest.fixture(params=[(), (0.99,), (0.5, 0.99)], ids=["plain", "averaged", "averaged over two lengths"])
def decays(request) -> tuple[float, ...]:
    return request.param


@pytest.mark.parametrize(
    "at", [0, 5, STEPS - 1, EPOCHS * STEPS - 1], ids=["first step", "mid-epoch", "end of an epoch", "last step"]
)
def test_a_run_that_was_asked_to_stop_and_continued_ends_with_the_bytes_of_one_never_stopped(workplace, decays, at):
    uninterrupted = Run(decays).fit()
    with pytest.raises(InterruptedRunError):
        Run(decays, at_step=_asked_to_stop(at)).fit()
    second = Run(decays)
    _assert_same(second.fit(), uninterrupted)
    assert second.steps_done == list(range(at + 1, EPOCHS * STEPS))


def test_a_killed_run_continues_from_its_last_save_and_ends_with_the_same_bytes(workplace, decays):
    uninterrupted = Run(decays).fit()
    with pytest.raises(RuntimeError, match="killed"):
        Run(decays, save_every=-1.0, at_step=_killed(6)).fit()
    second = Run(decays)
    _assert_same(second.fit(), uninterrupted)
    assert second.steps_done == list(range(6, EPOCHS * STEPS))


def test_a_run_stopped_at_every_step_ends_with_the_same_bytes(workplace):
    uninterrupted = Run((0.9,)).fit()
    for step in range(EPOCHS * STEPS):
        with pytest.raises(InterruptedRunError):
            Run((0.9,), at_step=_asked_to_stop(step, signal.SIGINT)).fit()
    _assert_same(Run((0.9,)).fit(), uninterrupted)


SCHEDULES = {
    "warmup_stable_decay": (OPTIMIZER, {2: 5, 3: 7, 5: 12}),  # epochs -> steps before the fall
    "milestones": (replace(OPTIMIZER, schedule="milestones", milestones=[1, 4], gamma=0.5), {2: 8, 3: 12, 5: 20}),
    "cosine": (replace(OPTIMIZER, schedule="cosine"), {2: 0, 3: 0, 5: 0}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_longer_run_costs_the_difference_and_gives_the_bytes_of_one_from_scratch(
    workplace, decays, name, tmp_path, monkeypatch
):
    optimizer, shared = SCHEDULES[name]
    scratch = {}
    for epochs in (3, 5):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / str(epochs)))  # where states are kept: an empty folder
        scratch[epochs] = Run(decays, epochs=epochs, optimizer=optimizer, extendable=True).fit()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "one after the other"))
    from_step = 0
    for epochs in (2, 3, 5, 3):
        run = Run(decays, epochs=epochs, optimizer=optimizer, extendable=True)
        result = run.fit()
        assert run.steps_done == list(range(from_step, epochs * STEPS))
        if epochs in scratch:
            _assert_same(result, scratch[epochs])
        from_step = (
            0 if epochs == 5 else shared[epochs]
        )  # the run of 5 epochs keeps a state that one of 3 does not pass through


def test_a_run_that_counts_its_epochs_never_continues_another(workplace):
    Run(epochs=2).fit()
    assert not list(workplace.glob(".state/*/*"))
    longer = Run(epochs=3)
    longer.fit()
    assert longer.steps_done[0] == 0


def test_a_longer_run_that_was_killed_continues_from_where_it_was(workplace, decays):
    uninterrupted = Run(decays, epochs=5).fit()
    Run(decays, epochs=3, extendable=True).fit()
    with pytest.raises(InterruptedRunError):
        Run(decays, epochs=5, extendable=True, at_step=_asked_to_stop(17)).fit()
    last = Run(decays, epochs=5, extendable=True)
    _assert_same(last.fit(), uninterrupted)
    assert last.steps_done == [18, 19]


def test_saving_often_changes_nothing(workplace):
    seldom = Run((0.9,)).fit()
    often = Run((0.9,), save_every=-1.0)
    often_result = often.fit()
    assert often.steps_done == list(range(EPOCHS * STEPS))
    _assert_same(often_result, seldom)


def test_a_run_that_continues_says_where(workplace, caplog):
    with pytest.raises(InterruptedRunError):
        Run(at_step=_asked_to_stop(5)).fit()
    with caplog.at_level(logging.INFO):
        Run().fit()
    assert any(message.startswith("resumed ") and message.endswith("at step 6") for message in caplog.messages)


def test_a_damaged_state_starts_over_and_ends_with_the_same_bytes(workplace, caplog):
    uninterrupted = Run().fit()
    with pytest.raises(InterruptedRunError):
        Run(at_step=_asked_to_stop(5)).fit()
    (state,) = workplace.glob(".state/*/*/state.safetensors")
    state.write_bytes(state.read_bytes()[:-5])
    second = Run()
    _assert_same(second.fit(), uninterrupted)
    assert second.steps_done[0] == 0
    assert any("left aside" in message for message in caplog.messages)


def test_signals_work_as_before_once_the_training_is_over(workplace):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    Run().fit()
    with pytest.raises(InterruptedRunError):
        Run(at_step=_asked_to_stop(5)).fit()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_history_holds_one_row_per_epoch_with_the_means_of_the_logged_terms(workplace):
    run = Run()
    _, _, history = run.fit()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(row["double"] == pytest.approx(2 * row["loss"]) for row in history)
    assert run.seen_by_on_epoch == [(1, False), (2, False), (3, False)]  # in evaluation mode


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
    assert _bytes(short, long) == _bytes(short_alone, long_alone)
    assert used is short
    assert history == history_alone


def test_training_lowers_the_loss(workplace):
    _, _, history = Run(epochs=40).fit()
    assert history[-1]["loss"] < history[0]["loss"] / 2


def test_averaging_does_not_disturb_the_training(workplace):
    assert _bytes(Run((0.99,)).fit()[0][0]) == _bytes(Run().fit()[0][0])


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
        network, seen = nn.Linear(2, 1), []
        original = torch.optim.AdamW.step

        def spy(self, *arguments):
            seen.append(self.param_groups[0]["lr"])
            return original(self, *arguments)

        def loss(step: int) -> list[MicroBatch]:
            return [(1.0, network(torch.ones(1, 2)).sum(), {})]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", spy)
            optimizer = replace(OPTIMIZER, **settings)
            fit(network, loss, TrainConfig("x", 3, 4, optimizer, Saving(ResumeFile("x", {}, ()), NEVER)))
        return seen

    steps = range(12)
    assert rates() == [1e-2 * warmup_stable_decay(step, 12, 2, 0.4) for step in steps]
    assert rates(schedule="cosine") == [1e-2 * warmup_cosine(step, 12, 2) for step in steps]
    assert rates(schedule="milestones", milestones=[1, 2], gamma=0.5) == [
        1e-2 * warmup_milestones(step, 4, 2, [1, 2], 0.5) for step in steps
    ]
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        rates(schedule="linear")


@given(st.integers(1, 40), st.integers(1, 40))
def test_parts_cover_a_batch_once_in_order_and_differ_by_one_row_at_most(count, accumulate):
    cut = list(micro_batches(count, accumulate))
    rows = [list(range(count))[part] for _, part in cut]
    assert [row for part in rows for row in part] == list(range(count))
    sizes = [len(part) for part in rows]
    assert len(sizes) == min(count, accumulate)
    assert 1 <= max(sizes) <= min(sizes) + 1
    assert [weight for weight, _ in cut] == [size / count for size in sizes]


@pytest.mark.parametrize("accumulate", [2, 3, 7])
def test_a_batch_in_parts_teaches_what_the_whole_teaches(workplace, accumulate):
    """In float64, where the order of a sum hardly matters; seven rows make uneven parts."""

    def run(accumulate: int) -> tuple[nn.Module, list[dict[str, float]], list[int]]:
        torch.manual_seed(7)
        network = nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
        x = torch.randn(STEPS, 7, 4, dtype=torch.float64, generator=generator(0, "x"))
        seen: list[int] = []

        def loss(step: int) -> Iterator[MicroBatch]:
            for weight, rows in micro_batches(7, accumulate):
                batch = x[step % STEPS, rows]
                seen.append(len(batch))
                error = (network(batch)[:, 0] - batch.sum(dim=1)).square()
                yield weight, error.mean(), {"loss": error.mean()}

        saving = Saving(ResumeFile("x", {"accumulate": accumulate}, ()), NEVER)
        _, history = fit(network, loss, TrainConfig("x", EPOCHS, STEPS, OPTIMIZER, saving))
        return network, history, seen

    whole, cut = run(1), run(accumulate)
    for one, other in zip(whole[0].parameters(), cut[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert [row["loss"] for row in cut[1]] == pytest.approx([row["loss"] for row in whole[1]], rel=1e-9)
    assert max(whole[2]) == 7
    assert max(cut[2]) == -(-7 // accumulate)
