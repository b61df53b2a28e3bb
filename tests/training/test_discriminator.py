"""An autoencoder and its discriminator train in the one loop, and continue to the same bytes after a kill."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from latentline.autoencoders.vae import VAE
from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError
from latentline.core.seeds import generator
from latentline.runtime.compute import to_device
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import DiscriminatorTraining, Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch
from latentline.training.optimizer import Optimizer
from stages.train_autoencoder.adversarial import HINGE, AdversarialTerm, last_layer
from stages.train_autoencoder.discriminator import PatchDiscriminator
from support.training_loss import training_loss
from support.training_run import NEVER, reference, save_after_each_step

EPOCHS, STEPS = 3, 4
FIRST, ENTERS = 3, 6  # steps at which the discriminator begins to train, and to be part of the loss
OPTIMIZER = Optimizer(lr=1e-2, weight_decay=0.01, warmup_steps=2, decay_fraction=0.4, clip_norm=1.0)


@dataclass
class Run:
    """One training."""

    adversarial: bool = True
    ema_decay: float | None = None
    epochs: int = EPOCHS
    discriminator_lr: float = 1e-2
    at_step: Callable[[int], None] = lambda step: None

    def fit(self) -> tuple[VAE, PatchDiscriminator, list[dict[str, float]]]:
        torch.manual_seed(7)
        device = torch.device("cpu")
        vae = to_device(
            VAE(
                (1, 8, 8),
                kl_weight=1e-3,
                latent_channels=2,
                encoder_channels=[8],
                encoder_blocks=[1],
                decoder_channels=[8],
                decoder_blocks=[1],
            ),
            device,
        )
        discriminator = to_device(PatchDiscriminator(1, channels=8, layers=2), device)
        adversarial_term = AdversarialTerm(
            discriminator, last_layer(vae.decoder), HINGE, weight=0.5, adaptive_max=1e4, enters_at=ENTERS
        )
        images = torch.rand(STEPS, 6, 1, 8, 8, generator=generator(0, "images")) * 2 - 1

        def loss(step: int) -> list[MicroBatch]:
            x = images[step % STEPS].contiguous(memory_format=torch.channels_last)
            value, terms, reconstruction = training_loss(vae, x, generator(0, "noise", step))
            if not self.adversarial:
                self.at_step(step)
                return [(1.0, value, terms)]
            value, added = adversarial_term.generator_loss(step, value, x, reconstruction)
            self.at_step(step)
            return [(1.0, value, {**terms, **added})]

        optimizer = replace(OPTIMIZER, lr=self.discriminator_lr, betas=(0.5, 0.9))
        training = DiscriminatorTraining(
            discriminator,
            adversarial_term.discriminator_loss,
            optimizer,
            FIRST,
            "autoencoder.adversarial",
            adversarial_term.on_terms,
        )
        saving = Saving(ResumeFile("train_test", {"ema": self.ema_decay}, ()), NEVER)
        _, history = fit(
            vae,
            loss,
            TrainConfig("autoencoder", self.epochs, STEPS, OPTIMIZER, saving),
            averages=[] if self.ema_decay is None else [Ema(vae, self.ema_decay)],
            discriminator=training if self.adversarial else None,
        )
        return vae, discriminator, history


def _bytes(module: nn.Module) -> dict[str, bytes]:
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in module.state_dict().items()}


def _assert_same(one, other) -> None:
    assert _bytes(one[0]) == _bytes(other[0])
    assert _bytes(one[1]) == _bytes(other[1])
    assert one[2] == other[2]


def _at(step: int, act: Callable[[], None]) -> Callable[[int], None]:
    return lambda now: act() if now == step else None


def _ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _die() -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("step", [0, FIRST - 1, FIRST, ENTERS - 1, ENTERS, EPOCHS * STEPS - 1])
def test_a_run_that_was_asked_to_stop_and_continued_ends_with_the_bytes_of_one_never_stopped(
    workplace, step, ema_decay
):
    uninterrupted = reference(Run(ema_decay=ema_decay).fit)
    with pytest.raises(InterruptedRunError):
        Run(ema_decay=ema_decay, at_step=_at(step, _ask_to_stop)).fit()
    _assert_same(Run(ema_decay=ema_decay).fit(), uninterrupted)


@pytest.mark.parametrize("step", [FIRST + 1, ENTERS + 2])
def test_a_run_killed_between_the_two_networks_steps_ends_with_the_same_bytes(workplace, step, monkeypatch):
    uninterrupted = reference(Run().fit)
    save_after_each_step(monkeypatch)
    with pytest.raises(RuntimeError, match="killed"):
        Run(at_step=_at(step, _die)).fit()
    _assert_same(Run().fit(), uninterrupted)


def test_until_the_discriminator_enters_the_autoencoder_is_byte_for_byte_the_one_without(workplace):
    weights: dict[bool, list[dict[str, bytes]]] = {True: [], False: []}
    for adversarial, saved in weights.items():
        for last in (ENTERS, ENTERS + 1):
            with pytest.raises(InterruptedRunError):
                Run(adversarial=adversarial, at_step=_at(last - 1, _ask_to_stop)).fit()
            saved.append({name: tensor.contiguous().numpy().tobytes() for name, tensor in _saved(workplace).items()})
            _forget(workplace)
    assert weights[True][0] == weights[False][0]
    assert weights[True][1] != weights[False][1]


def _saved(workplace) -> dict[str, Tensor]:
    """Return the autoencoder's weights in the saved state."""
    (path,) = workplace.glob(".state/*/*/state.safetensors")
    return {name: tensor.clone() for name, tensor in load_arrays(path, "")[0].items() if name.startswith("model.")}


def _forget(workplace) -> None:
    for path in workplace.glob(".state/*/*/state.safetensors"):
        path.unlink()


def test_the_discriminators_weights_move(workplace):
    _, trained, _ = Run().fit()
    torch.manual_seed(7)
    VAE(
        (1, 8, 8),
        kl_weight=1e-3,
        latent_channels=2,
        encoder_channels=[8],
        encoder_blocks=[1],
        decoder_channels=[8],
        decoder_blocks=[1],
    )
    untrained = PatchDiscriminator(1, channels=8, layers=2)
    for (name, before), after in zip(untrained.named_parameters(), trained.parameters(), strict=True):
        assert not torch.equal(before, after), name


def test_terms_that_begin_in_the_middle_of_an_epoch_are_averaged_over_their_own_steps(workplace):
    _, _, history = reference(Run().fit)
    logits: list[float] = []
    original = AdversarialTerm.discriminator_loss

    def spy(self, step):
        ((weight, value, terms),) = original(self, step)
        logits.append(terms["logits_real"].item())
        return [(weight, value, terms)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdversarialTerm, "discriminator_loss", spy)
        Run().fit()
    assert len(logits) == EPOCHS * STEPS - FIRST
    assert history[0]["logits_real"] == pytest.approx(logits[0])  # the last step of the first epoch
    assert history[1]["logits_real"] == pytest.approx(sum(logits[1:5]) / 4)
    assert "adaptive_weight" not in history[0]
    assert {"adaptive_weight", "generator_loss", "discriminator_loss", "logits_fake", "loss"} <= history[1].keys()


def test_a_discriminator_that_diverges_stops_the_run_in_one_line_that_names_its_setting(workplace):
    with pytest.raises(UserError) as caught:
        Run(discriminator_lr=1e30, epochs=10).fit()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("autoencoder.adversarial: ")
    assert "lower autoencoder.adversarial.lr" in line
