"""The losses of discriminator and autoencoder, the adaptive weight, and the gradients that each network receives."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from stages.train_autoencoder.adversarial import (
    HINGE,
    LOSSES,
    NON_SATURATING,
    AdversarialTerm,
    DiscriminatorMonitor,
    adaptive_weight,
    last_layer,
)
from stages.train_autoencoder.discriminator import PatchDiscriminator
from support.training_loss import training_loss

LOGITS = st.lists(st.floats(-6, 6), min_size=1, max_size=5)


@given(LOGITS, LOGITS)
def test_hinge_losses_are_the_mean_shortfalls_from_the_margin(real, fake):
    loss = HINGE.discriminator(torch.tensor(real), torch.tensor(fake)).item()
    expected = sum(max(0, 1 - r) for r in real) / len(real) + sum(max(0, 1 + f) for f in fake) / len(fake)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert HINGE.generator(torch.tensor(fake)).item() == pytest.approx(-sum(fake) / len(fake), abs=1e-5)


@given(LOGITS, LOGITS)
def test_non_saturating_losses_are_cross_entropies_of_real_and_reconstructed(real, fake):
    r, f = torch.tensor(real), torch.tensor(fake)
    expected = F.binary_cross_entropy_with_logits(r, torch.ones_like(r)) + F.binary_cross_entropy_with_logits(
        f, torch.zeros_like(f)
    )
    torch.testing.assert_close(NON_SATURATING.discriminator(r, f), expected)
    torch.testing.assert_close(NON_SATURATING.generator(f), F.binary_cross_entropy_with_logits(f, torch.ones_like(f)))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_loss_of_logits_of_zero_is_the_one_called_undecided(loss):
    zeros = torch.zeros(4, 1, 2, 2)
    assert loss.discriminator(zeros, zeros).item() == pytest.approx(loss.undecided)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_are_float32_whatever_the_logits_are(loss):
    logits = torch.tensor([3.0, -200.0], dtype=torch.bfloat16)
    assert loss.discriminator(logits, logits).dtype == loss.generator(logits).dtype == torch.float32


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms():
    """y = W h: the gradient of sum(a * y) is a h', of norm |a| |h|."""
    weight, h = torch.randn(3, 4, requires_grad=True), torch.randn(4)
    y = weight @ h
    a, b = torch.randn(3), torch.randn(3)
    found = adaptive_weight((a * y).sum(), (b * y).sum(), weight, maximum=1e4)
    torch.testing.assert_close(found, a.norm() / b.norm(), atol=1e-4, rtol=1e-4)
    assert not found.requires_grad


def test_a_term_that_does_not_depend_on_the_decoder_does_not_count():
    weight, other = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    term = weight.sum()
    torch.testing.assert_close(
        adaptive_weight(weight.square().sum() + 9 * other.square().sum(), term, weight, 1e4),
        adaptive_weight(weight.square().sum(), term, weight, 1e4),
    )


def test_the_adaptive_weight_stays_finite_below_its_maximum_for_a_discriminator_without_gradient():
    weight = torch.randn(3, requires_grad=True)
    assert adaptive_weight(weight.sum(), 0 * weight.sum(), weight, maximum=50.0) == 50.0


def _vae() -> VAE:
    torch.manual_seed(3)
    vae = VAE(
        (1, 12, 12),
        kl_weight=1e-3,
        latent_channels=2,
        encoder_channels=[8],
        encoder_blocks=[1],
        decoder_channels=[8],
        decoder_blocks=[1],
    )
    for parameter in vae.parameters():
        nn.init.normal_(parameter, std=0.1)
    return vae


def test_the_last_layer_is_the_one_that_writes_the_pixels():
    vae = _vae()
    weight = last_layer(vae.decoder)
    z = torch.randn(2, *vae.latent_shape)
    before = vae.decode(z)
    with torch.no_grad():
        weight *= 2
        bias = next(layer.bias for layer in vae.decoder.modules() if getattr(layer, "weight", None) is weight)
        bias *= 2
    torch.testing.assert_close(vae.decode(z), 2 * before)


class Step:
    """One step of an autoencoder and its discriminator."""

    def __init__(self, enters_at: int = 0, weight: float = 0.5) -> None:
        self.vae = _vae()
        self.discriminator = PatchDiscriminator(1, channels=8, layers=1)
        self.term = AdversarialTerm(
            self.discriminator,
            last_layer(self.vae.decoder),
            HINGE,
            weight=weight,
            adaptive_max=1e4,
            enters_at=enters_at,
        )
        self.x = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def run(self, step: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the autoencoder's own loss, the loss with the adversarial term, and the logged terms."""
        own, _, reconstruction = training_loss(self.vae, self.x, torch.Generator().manual_seed(2))
        return own, *self.term.generator_loss(step, own, self.x, reconstruction)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.vae.parameters()), retain_graph=True))


def test_the_autoencoder_receives_the_discriminators_gradient_as_strong_as_its_own_at_the_last_layer():
    training = Step(weight=1.0)
    own, total, terms = training.run()
    layer = [last_layer(training.vae.decoder)]
    (gradient_own,), (gradient_added,) = (
        torch.autograd.grad(value, layer, retain_graph=True) for value in (own, total - own)
    )
    torch.testing.assert_close(gradient_added.norm(), gradient_own.norm(), rtol=1e-2, atol=0)
    assert terms["adaptive_weight"] > 0
    assert all(
        not torch.equal(one, other)
        for one, other in zip(training.gradients(own), training.gradients(total), strict=True)
    )


def test_following_it_makes_the_discriminator_take_reconstructions_for_real():
    training = Step()
    _, _, terms = training.run()
    gradients = training.gradients(terms["generator_loss"])
    with torch.no_grad():
        for parameter, gradient in zip(training.vae.parameters(), gradients, strict=True):
            parameter.sub_(1e-2 * gradient / torch.cat([one.flatten() for one in gradients]).norm())
    assert training.run()[2]["generator_loss"] < terms["generator_loss"]


def test_before_it_enters_the_loss_is_the_autoencoders_own():
    training = Step(enters_at=7)
    own, total, terms = training.run(step=6)
    assert total is own
    assert terms == {}
    assert training.run(step=7)[1] != own


def test_the_autoencoders_step_leaves_no_gradient_in_the_discriminator_and_its_own_step_none_in_the_autoencoder():
    training = Step()
    training.run()[1].backward()
    assert all(parameter.grad is None for parameter in training.discriminator.parameters())
    training.vae.zero_grad(set_to_none=True)
    training.term.discriminator_loss(0)[0][1].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in training.discriminator.parameters())
    assert all(parameter.grad is None for parameter in training.vae.parameters())


def test_the_discriminator_learns_to_separate_its_two_sets():
    training = Step()
    training.run()
    adam = torch.optim.Adam(training.discriminator.parameters(), lr=1e-2)
    for step in range(30):
        ((_, value, terms),) = training.term.discriminator_loss(step)
        adam.zero_grad()
        value.backward()
        adam.step()
    assert value < HINGE.undecided / 2
    assert terms["logits_real"] > terms["logits_fake"]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_adversarial_term_that_is_not_finite_stops_the_run_and_names_the_setting(number):
    training = Step()
    with torch.no_grad():
        last_layer(training.discriminator).fill_(number)
    with pytest.raises(
        UserError, match=r"autoencoder\.adversarial: .*must be finite at step 4.*autoencoder\.adversarial\.lr"
    ):
        training.term.on_terms(4, {name: term.item() for name, term in training.run(step=4)[2].items()})


@pytest.mark.parametrize(("loss", "word"), [(2.0, "raise"), (1.99, "raise"), (0.0, "lower")])
def test_a_discriminator_that_finds_no_difference_or_never_errs_is_reported_once(caplog, loss, word):
    monitor = DiscriminatorMonitor(undecided=2.0)
    with caplog.at_level(logging.WARNING):
        for step in range(499):
            monitor.update(step, loss)
        assert caplog.messages == []
        for step in range(499, 1500):
            monitor.update(step, loss)
    (message,) = caplog.messages
    assert f"{word} autoencoder.adversarial.lr" in message


def test_a_discriminator_that_errs_now_and_then_is_not_reported(caplog):
    monitor = DiscriminatorMonitor(undecided=2.0)
    for step in range(2000):
        monitor.update(step, 1.5 if step % 400 == 0 else 2.0)
    assert caplog.messages == []
