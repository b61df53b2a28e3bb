"""Processes that shard the weights train what one process trains, and hold their shard alone."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.condition import Condition
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.core.seeds import generator
from latentline.denoisers.dit import DiT
from latentline.nn.gradient_checkpointing import checkpoint_blocks
from latentline.nn.unet import UNet
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batch_count, micro_batches
from latentline.training.optimizer import Optimizer
from support.several import several
from support.small_diffae import small_diffae
from support.training_run import reference, save_after_each_step

EPOCHS, STEPS = 2, 3
STOPPED = 3  # the step after which some runs end early
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)


@dataclass(frozen=True)
class Result:
    """The result of a training in one process."""

    weights: list[Tensor]
    """Of the returned network, and of each average."""
    history: list[dict[str, float]]


def _autoencoder() -> Autoencoder:
    small = {"encoder_channels": [8], "encoder_blocks": [1], "decoder_channels": [8], "decoder_blocks": [1]}
    return VAE((1, 8, 8), kl_weight=1e-3, latent_channels=2, **small)


def _denoiser(width: int = 12) -> nn.Module:
    return DiT((1, 8, 8), cond_dim=3, width=width, depth=2, heads=2, patch_size=4)


def _checkpointed() -> nn.Module:
    network = _denoiser()
    checkpoint_blocks(network)
    return network


def _unet() -> nn.Module:
    return UNet((1, 8, 8), cond_dim=3, channels=[8, 8], blocks=1, attention_levels=[1])


@dataclass
class Run:
    """One training in float64, where the order of a sum hardly matters."""

    network: Callable[[], nn.Module] = _autoencoder
    rows: int = 7
    accumulate: int = 1
    decays: tuple[float, ...] = (0.9, 0.5)
    frozen: str | None = None
    at_step: Callable[[int, Ranks], None] = lambda step, ranks: None

    def fit(self, ranks: Ranks = SINGLE_PROCESS) -> Result:
        torch.manual_seed(7)
        network = self.network().double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        if self.frozen:
            network.get_submodule(self.frozen).requires_grad_(False)
        x = torch.rand(STEPS, self.rows, 1, 8, 8, dtype=torch.float64, generator=generator(0, "x")) * 2 - 1

        def loss(step: int) -> Iterator[MicroBatch]:
            self.at_step(step, ranks)
            noise: tuple[Tensor, ...] = ()
            if isinstance(network, Autoencoder):
                noise = network.sample_training_noise(self.rows, generator(0, "noise", step))
            for weight, rows in micro_batches(self.rows, self.accumulate, ranks):
                batch = x[step % STEPS, rows]
                if isinstance(network, Autoencoder):
                    value, terms, _ = network.loss(batch, tuple(part[rows].to(batch) for part in noise), step)
                else:
                    t = torch.linspace(0, 1, self.rows, dtype=torch.float64)[rows]
                    value = (network(batch, t, Condition(torch.zeros(len(t), 3).double())) - batch).square().mean()
                    terms = {"loss": value}
                yield weight, value, terms

        averages = [Ema(network, decay) for decay in self.decays]
        used, history = fit(
            network,
            loss,
            TrainConfig(
                "autoencoder",
                EPOCHS,
                STEPS,
                OPTIMIZER,
                Saving(ResumeFile("train_test", {}, ()), 1e9),
                micro_batch_count(self.rows, self.accumulate, ranks),
            ),
            averages=averages,
            on_epoch=lambda model, epoch: {"norm": sum(weight.norm().item() for weight in model.parameters())},
            ranks=ranks,
        )
        if ranks.is_main:
            ResumeFile("train_test", {}, ()).finish()
        weights = [
            weight.detach()
            for model in (used, *(average.model for average in averages))
            for weight in model.parameters()
        ]
        return Result(weights, history)


def _assert_close(one: Result, other: Result) -> None:
    for weight, expected in zip(one.weights, other.weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-8)
    for row, expected_row in zip(one.history, other.history, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-6)


@pytest.mark.parametrize(
    ("processes", "run"),
    [
        pytest.param(2, Run(), id="autoencoder"),
        pytest.param(3, Run(frozen="encoder"), id="frozen part"),
        pytest.param(2, Run(lambda: small_diffae(2), frozen="encoder"), id="diffusion autoencoder"),
        pytest.param(3, Run(_denoiser), id="denoiser"),
        pytest.param(2, Run(_denoiser, decays=()), id="no average"),
        pytest.param(2, Run(_checkpointed), id="gradient checkpointing"),
        pytest.param(2, Run(_unet, accumulate=4), id="micro-batches"),
        pytest.param(2, Run(_denoiser, accumulate=9, rows=3), id="more micro-batches than rows"),
        pytest.param(3, Run(_denoiser, rows=2), id="more processes than rows"),
    ],
)
def test_processes_that_shard_the_weights_train_what_one_trains(workplace, run, processes):
    expected = reference(run.fit)
    for result in several(processes, run.fit, sharded=True):
        _assert_close(result, expected)


def _stop(step: int, ranks: Ranks) -> None:
    if step == STOPPED and ranks.number == ranks.count - 1:
        os.kill(os.getpid(), signal.SIGTERM)


def _start_late(step: int, ranks: Ranks) -> None:
    assert step > STOPPED


@pytest.mark.parametrize(
    ("before", "sharded_before", "after", "sharded_after"),
    [
        pytest.param(2, True, 1, False, id="to one process"),
        pytest.param(1, False, 2, True, id="from one process"),
        pytest.param(3, True, 2, True, id="to fewer"),
        pytest.param(2, False, 3, True, id="from whole weights"),
    ],
)
def test_a_run_continues_with_weights_sharded_otherwise(workplace, before, sharded_before, after, sharded_after):
    expected = reference(Run(_denoiser).fit)
    stopped = several(before, Run(_denoiser, at_step=_stop).fit, sharded=sharded_before)
    assert [type(result) for result in stopped] == [InterruptedRunError] * before
    for result in several(after, Run(_denoiser, at_step=_start_late).fit, sharded=sharded_after):
        _assert_close(result, expected)


def _die(step: int, ranks: Ranks) -> None:
    if step == STOPPED and ranks.number == 1:
        os._exit(9)


def test_a_state_saved_by_rank_0s_clock_outlives_a_process_that_dies(workplace, monkeypatch):
    expected = reference(Run(_denoiser).fit)
    save_after_each_step(monkeypatch)
    first, dead, last = several(3, Run(_denoiser, at_step=_die).fit, sharded=True)
    assert dead is None
    assert type(first) is type(last) is LostRankError
    done: list[int] = []
    _assert_close(Run(_denoiser, at_step=lambda step, ranks: done.append(step)).fit(), expected)
    assert done == [*range(STOPPED, EPOCHS * STEPS)]


def _bytes_of_tensors() -> int:
    """Return the bytes of all tensors of this process, each storage once."""
    gc.collect()
    storages = [tensor.untyped_storage() for tensor in gc.get_objects() if type(tensor) in (Tensor, nn.Parameter)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_between_two_steps_each_process_holds_its_shard_of_weights_moments_and_averages_alone(workplace):
    before = _bytes_of_tensors()
    taken: list[int] = []

    def fit(ranks: Ranks) -> int:
        def measure(step: int, ranks: Ranks) -> None:
            if step == STEPS:
                taken.append(_bytes_of_tensors() - before)

        Run(lambda: _denoiser(48), at_step=measure).fit(ranks)
        return taken[-1]

    weights = 8 * sum(parameter.numel() for parameter in _denoiser(48).parameters())
    whole = (1 + 2 + 2) * weights  # and two moments, and two averages
    assert fit(SINGLE_PROCESS) == pytest.approx(whole, rel=0.1)
    assert several(3, fit, sharded=True) == [pytest.approx(whole / 3, rel=0.1)] * 3
