"""Training by several processes, each with its part of the weights, against training by one."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from several import several
from torch import Tensor, nn

from latentline.codecs.vae import VAE
from latentline.common.seeds import generator
from latentline.models.dit import DiT
from latentline.runtime.interrupt import InterruptedRunError, LostRankError
from latentline.runtime.parallel import ALONE, Ranks
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import Optimizer, Part, Saving, fit, parts

EPOCHS, STEPS = 2, 3
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)


@dataclass(frozen=True)
class Result:
    """What a training left in one process."""

    weights: list[Tensor]
    """Of what was returned, and of each average."""
    history: list[dict[str, float]]
    share: float
    """Of the weights, gradients and moments that one process alone has: how many numbers this one has after the last step."""


def _codec() -> nn.Module:
    small = {"encoder_channels": [8], "encoder_blocks": [1], "decoder_channels": [8], "decoder_blocks": [1]}
    return VAE((1, 8, 8), kl_weight=1e-3, latent_channels=2, **small)


def _denoiser() -> nn.Module:
    return DiT((1, 8, 8), features=3, width=12, depth=2, heads=2, patch_size=4)


@dataclass
class Run:
    """One training in float64, where the order of a sum hardly matters."""

    network: Callable[[], nn.Module] = _codec
    rows: int = 7
    accumulate: int = 1
    decays: tuple[float, ...] = (0.9, 0.5)
    frozen: str | None = None
    every_seconds: float = 1e9
    at_step: Callable[[int, Ranks], None] = lambda step, ranks: None

    def fit(self, ranks: Ranks = ALONE) -> Result:
        torch.manual_seed(7)
        network = self.network().double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        if self.frozen:
            network.get_submodule(self.frozen).requires_grad_(False)
        x = torch.rand(STEPS, self.rows, 1, 8, 8, dtype=torch.float64, generator=generator(0, "x")) * 2 - 1

        def loss(step: int) -> Iterator[Part]:
            self.at_step(step, ranks)
            noise = generator(0, "noise", step)
            own = list(parts(self.rows, self.accumulate, ranks))
            if isinstance(network, VAE):
                network.draws(own[0][1].start, noise)
            for share, rows in own:
                batch = x[step % STEPS, rows]
                if isinstance(network, VAE):
                    value, terms, _ = network.loss(batch, noise, step)
                else:
                    t = torch.linspace(0, 1, self.rows, dtype=torch.float64)[rows]
                    value = (network(batch, t, torch.zeros(len(t), 3).double()) - batch).square().mean()
                    terms = {"loss": value}
                yield share, value, terms

        averages = [Ema(network, decay) for decay in self.decays]
        used, history = fit(
            network,
            loss,
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            optimizer=OPTIMIZER,
            saving=Saving(ResumeFile("train_test", {}), self.every_seconds),
            averages=averages,
            on_epoch=lambda model, epoch: {"norm": sum(weight.norm().item() for weight in model.parameters())},
            ranks=ranks,
            section="autoencoder",
        )
        if ranks.is_first:
            ResumeFile("train_test", {}).finish()
        weights = [weight.detach() for model in (used, *(average.model for average in averages)) for weight in model.parameters()]
        return Result(weights, history, 0.0)


def _assert_close(one: Result, other: Result) -> None:
    for weight, expected in zip(one.weights, other.weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-8)
    for row, expected_row in zip(one.history, other.history, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-6)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(Run(), id="codec"),
        pytest.param(Run(_denoiser), id="denoiser"),
        pytest.param(Run(_denoiser, decays=()), id="no average"),
        pytest.param(Run(frozen="encoder"), id="frozen part"),
        pytest.param(Run(accumulate=3), id="parts"),
        pytest.param(Run(accumulate=9, rows=3), id="more parts than rows"),
    ],
)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_with_parts_of_the_weights_learn_what_one_learns(workplace, run, processes):
    expected = run.fit()
    results = several(processes, run.fit, sharded=True)
    for result in results:
        if isinstance(result, Exception): raise result
        _assert_close(result, expected)
