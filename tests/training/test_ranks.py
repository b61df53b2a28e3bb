"""Several processes train what one process trains, byte for byte the same on each rank."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.core.seeds import generator
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import DiscriminatorTraining, Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batch_count, micro_batches
from latentline.training.optimizer import Optimizer
from stages.train_autoencoder.adversarial import HINGE, AdversarialTerm, last_layer
from stages.train_autoencoder.discriminator import PatchDiscriminator
from support.several import several
from support.training_run import reference

EPOCHS, STEPS = 2, 3
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)
Result = tuple[list[Tensor], list[dict[str, float]]]
"""Weights of the network, its average and the discriminator, and the history."""


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_the_micro_batches_of_all_ranks_cover_a_batch_once_in_order(count, accumulate, processes):
    cut = [list(micro_batches(count, accumulate, Ranks(number, processes))) for number in range(processes)]
    rows = [range(count)[part] for own in cut for weight, part in own if weight]
    assert [row for part in rows for row in part] == list(range(count))
    assert sum(weight for own in cut for weight, _ in own) == pytest.approx(1)
    assert all(weight == 0 or weight == (part.stop - part.start) / count for own in cut for weight, part in own)
    assert {len(own) for own in cut} == {micro_batch_count(count, accumulate, Ranks(0, processes))}
    assert all(own and all(part.stop > part.start for _, part in own) for own in cut)
    assert max(map(len, rows)) <= -(
        -count // min(accumulate, count)
    )  # no micro-batch needs more memory than with one process


@dataclass
class Run:
    """One training of an autoencoder in float64, where the order of a sum hardly matters.

    The discriminator's losses are float32.
    """

    rows: int = 7
    accumulate: int = 1
    adversarial: bool = False
    at_step: Callable[[int, Ranks], None] = lambda step, ranks: None
    spoil: Callable[[int, Ranks], float] = lambda step, ranks: 1.0

    def fit(self, ranks: Ranks = SINGLE_PROCESS) -> Result:
        torch.manual_seed(7)
        small = {"encoder_channels": [8], "encoder_blocks": [1], "decoder_channels": [8], "decoder_blocks": [1]}
        vae = VAE((1, 8, 8), kl_weight=1e-3, latent_channels=2, **small).double()
        for parameter in vae.parameters():
            # No layer of zeros, behind which a gradient would be nothing but rounding.
            nn.init.normal_(parameter, std=0.1)
        discriminator = PatchDiscriminator(1, channels=8, layers=2).double()
        adversarial_term = AdversarialTerm(
            discriminator, last_layer(vae.decoder), HINGE, weight=0.5, adaptive_max=1e4, enters_at=2, ranks=ranks
        )
        images = torch.rand(STEPS, self.rows, 1, 8, 8, dtype=torch.float64, generator=generator(0, "images")) * 2 - 1

        def loss(step: int) -> Iterator[MicroBatch]:
            self.at_step(step, ranks)
            x = images[step % STEPS]
            (noise,) = vae.sample_training_noise(len(x), generator(0, "noise", step))
            for weight, rows in micro_batches(len(x), self.accumulate, ranks):
                value, terms, reconstruction = vae.loss(x[rows], (noise[rows],), step)
                if self.adversarial:
                    value, added = adversarial_term.generator_loss(step, value, x[rows], reconstruction, weight)
                    terms = {**terms, **added}
                yield weight, value * self.spoil(step, ranks), terms

        average = Ema(vae, 0.9)
        count = micro_batch_count(self.rows, self.accumulate, ranks)
        _, history = fit(
            vae,
            loss,
            TrainConfig("autoencoder", EPOCHS, STEPS, OPTIMIZER, Saving(ResumeFile("train_test", {}, ()), 1e9), count),
            averages=[average],
            discriminator=DiscriminatorTraining(
                discriminator, adversarial_term.discriminator_loss, OPTIMIZER, 1, "autoencoder.adversarial"
            )
            if self.adversarial
            else None,
            on_epoch=lambda model, epoch: {"process": float(ranks.number)},
            ranks=ranks,
        )
        if ranks.is_main:
            ResumeFile("train_test", {}, ()).finish()
        return [
            weight.detach() for network in (vae, average.model, discriminator) for weight in network.parameters()
        ], history


def _assert_close(one: Result, other: Result, rtol: float = 1e-6) -> None:
    for weight, expected in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(weight, expected, rtol=rtol, atol=1e-7)
    for row, expected in zip(one[1], other[1], strict=True):
        assert row == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize(
    ("processes", "rows"), [(2, 6), (2, 7), (3, 2)], ids=["even", "odd", "more processes than rows"]
)
def test_several_processes_train_what_one_trains(workplace, processes, rows, adversarial):
    run = Run(rows, adversarial=adversarial)
    expected = reference(run.fit)
    first, *others = several(processes, run.fit)
    _assert_close(first, expected)
    for other in others:  # byte for byte, and what the first alone computes too
        assert all(torch.equal(weight, of_first) for weight, of_first in zip(other[0], first[0], strict=True))
        assert other[1] == first[1]
    assert [row["process"] for row in first[1]] == [0.0, 0.0]


@pytest.mark.parametrize("accumulate", [2, 5])
def test_micro_batches_and_processes_go_together(workplace, accumulate):
    _assert_close(several(2, Run(accumulate=accumulate).fit)[1], Run().fit())


def _stop(step: int, ranks: Ranks) -> None:
    if step == 3 and ranks.number == ranks.count - 1:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 2)])
def test_a_run_asked_to_stop_in_any_process_continues_with_any_number_of_processes(workplace, before, after):
    uninterrupted = reference(Run().fit)
    stopped = several(before, Run(at_step=_stop).fit)
    assert [type(result) for result in stopped] == [InterruptedRunError] * before
    done: list[int] = []
    second = Run(at_step=lambda step, ranks: done.append(step))
    _assert_close(several(after, second.fit)[0] if after > 1 else second.fit(), uninterrupted)
    if after == 1:
        assert done == [4, 5]


def test_a_loss_that_is_no_number_in_one_process_stops_all_with_the_same_line(workplace):
    results = several(3, Run(spoil=lambda step, ranks: float("nan") if (step, ranks.number) == (2, 1) else 1.0).fit)
    assert {type(result) for result in results} == {UserError}
    (line,) = {str(result) for result in results}
    assert "at step 2" in line


def _die(step: int, ranks: Ranks) -> None:
    if step == 4 and ranks.number == 1:
        os._exit(9)


def test_a_process_that_dies_ends_the_others(workplace):
    first, dead, last = several(3, Run(at_step=_die).fit)
    assert dead is None
    assert type(first) is type(last) is LostRankError
