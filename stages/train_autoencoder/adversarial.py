"""Adversarial training of an autoencoder: a discriminator learns to tell its reconstructions from images, and it to deceive that."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.errors import UserError
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.training.micro_batches import MicroBatch

log = logging.getLogger(__name__)

_DELTA = 1e-6  # of arXiv 2012.09841, eq. 7
_LONG = 500  # steps
_NEAR = 0.02  # share of the undecided loss


@dataclass(frozen=True)
class AdversarialLoss:
    """Two losses of the discriminator's logits (any shape): its own (real, fake), and the autoencoder's (fake)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    undecided: float
    """The discriminator's loss where all its logits are zero."""


# Lim and Ye, arXiv 1705.02894, section 3.1, with the margin of 1
HINGE = AdversarialLoss(
    discriminator=lambda real, fake: F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean(),
    generator=lambda fake: -fake.float().mean(),
    undecided=2.0,
)
# Goodfellow et al., arXiv 1406.2661, eq. 1 and the second paragraph below it; softplus(-x) = -log sigmoid(x)
NON_SATURATING = AdversarialLoss(
    discriminator=lambda real, fake: F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean(),
    generator=lambda fake: F.softplus(-fake.float()).mean(),
    undecided=2 * math.log(2),
)
LOSSES = {"hinge": HINGE, "non_saturating": NON_SATURATING}


def adaptive_weight(
    loss: Tensor,
    adversarial: Tensor,
    last_layer: Tensor,
    maximum: float,
    share: float = 1.0,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """What makes the adversarial term as strong as ``loss`` at the decoder's last layer (Esser et al., arXiv 2012.09841, eq. 7).

    Terms of ``loss`` that the decoder has no part in (KL) do not count, since they have no gradient there.

    Args:
        loss: all other terms (scalar).
        adversarial: the generator's adversarial term (scalar).
        last_layer: the decoder's last weight.
        maximum: upper limit: a discriminator without gradient would ask for infinitely much.
        share: of the batch's rows that both terms are about; the gradients are those of the whole batch.
        ranks: the processes that have the other rows.

    Returns:
        A scalar in [0, maximum], float32, through which no gradient flows.
    """
    gradients = [
        share * torch.autograd.grad(term, last_layer, retain_graph=True)[0].float() for term in (loss, adversarial)
    ]
    ranks.all_reduce(gradients)
    wanted, present = (gradient.norm() for gradient in gradients)
    return (wanted / (present + _DELTA)).clamp(max=maximum)


def last_layer(decoder: nn.Module) -> Tensor:
    """The weight of the layer that writes the pixels: the last one that ``decoder`` holds, biases and norms apart."""
    return [parameter for parameter in decoder.parameters() if parameter.ndim > 1][-1]


class Adversary:
    """The discriminator's two parts in a training: a term of the autoencoder's loss, and its own loss (for ``loop.DiscriminatorTraining``).

    Args:
        discriminator: images (B, C, H, W) -> logits; larger = more like a real image.
        last_layer: the decoder's last weight.
        loss: one of :data:`LOSSES`.
        weight: of the adversarial term, times the adaptive weight.
        adaptive_max: upper limit of the adaptive weight.
        enters_at: the step from which the term is part of the autoencoder's loss.
        ranks: the processes that share each batch.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        last_layer: Tensor,
        loss: AdversarialLoss,
        *,
        weight: float,
        adaptive_max: float,
        enters_at: int,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.discriminator = discriminator
        self._last_layer = last_layer
        self._loss = loss
        self._weight = weight
        self._adaptive_max = adaptive_max
        self._enters_at = enters_at
        self._ranks = ranks
        self._watch = Watch(loss.undecided)
        self._seen: tuple[Tensor, Tensor, float]  # of this step: images, reconstructions and their share of the batch

    def against(
        self, step: int, loss: Tensor, x: Tensor, reconstruction: Tensor, share: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The autoencoder's loss on a ``share`` of the batch with the adversarial term, and that term's parts for the log."""
        self._seen = x, reconstruction.detach(), share
        if step < self._enters_at:
            return loss, {}
        self.discriminator.requires_grad_(False)  # its weights' gradients are its own step's business
        term = self._loss.generator(self.discriminator(reconstruction))
        self.discriminator.requires_grad_(True)
        whole = share * term.detach()
        self._ranks.all_reduce([whole])
        if not whole.isfinite():
            raise UserError(
                f"autoencoder.adversarial: the adversarial term is {whole.item()} at step {step}; expected a finite number; "
                "lower autoencoder.adversarial.weight or autoencoder.adversarial.lr"
            )
        ratio = adaptive_weight(loss, term, self._last_layer, self._adaptive_max, share, self._ranks)
        return loss + self._weight * ratio * term, {"generator_loss": term, "adaptive_weight": ratio}

    def loss(self, step: int) -> list[MicroBatch]:
        """The discriminator's loss on what the autoencoder's step ``step`` saw and made, and its terms: the same part of the batch."""
        x, reconstruction, share = self._seen
        real, fake = self.discriminator(torch.cat([x, reconstruction])).chunk(2)  # (B, 1, h, w) each
        value = self._loss.discriminator(real, fake)
        self._watch.see(step, value.item())
        return [(share, value, {"discriminator_loss": value, "logits_real": real.mean(), "logits_fake": fake.mean()})]


class Watch:
    """Says once, in one log line, when a discriminator has for long been of no use: it sees no difference, or makes no mistake.

    Args:
        undecided: its loss where all its logits are zero.
    """

    def __init__(self, undecided: float) -> None:
        self._undecided = undecided
        self._steps = {"dead": 0, "won": 0}  # in a row

    def see(self, step: int, loss: float) -> None:
        """Note the discriminator's loss at ``step``."""
        near = _NEAR * self._undecided
        signs = {
            "dead": (abs(loss - self._undecided) < near, "seen no difference", "raise"),
            "won": (loss < near, "made no mistake", "lower"),
        }
        for state, (present, deed, remedy) in signs.items():
            self._steps[state] = self._steps[state] + 1 if present else 0
            if self._steps[state] == _LONG:
                line = "step %d: the discriminator has %s for %d steps (loss %.3g); %s autoencoder.adversarial.lr"
                log.warning(line, step, deed, _LONG, loss, remedy)
