"""Adversarial training: a discriminator learns to separate reconstructions from images, the autoencoder to fool it."""

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
_NEAR = 0.02  # fraction of the undecided loss


@dataclass(frozen=True)
class AdversarialLoss:
    """Losses of the discriminator's logits, of any shape: its own (real, fake), and the autoencoder's (fake)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    undecided: float
    """The discriminator's loss where all its logits are zero."""


# Lim and Ye, arXiv 1705.02894, section 3.1, with a margin of 1
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
    micro_batch_weight: float = 1.0,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """Return the weight that makes the adversarial term as strong as ``loss`` at the decoder's last layer.

    The ratio of gradient norms of Esser et al., arXiv 2012.09841, eq. 7. Terms of ``loss`` that do not depend on the
    decoder, such as KL, do not count, since they have no gradient there.

    Args:
        loss: all other terms (scalar).
        adversarial: the generator's adversarial term (scalar).
        last_layer: the decoder's last weight.
        maximum: upper limit; without it a discriminator without gradient would give an infinite weight.
        micro_batch_weight: fraction of the batch's rows in both terms; the gradients are those of the whole batch.
        ranks: the processes that have the other rows.

    Returns:
        A scalar in [0, maximum], float32, through which no gradient flows.
    """
    gradients = [
        micro_batch_weight * torch.autograd.grad(term, last_layer, retain_graph=True)[0].float()
        for term in (loss, adversarial)
    ]
    ranks.all_reduce(gradients)
    wanted, present = (gradient.norm() for gradient in gradients)
    return (wanted / (present + _DELTA)).clamp(max=maximum)


def last_layer(decoder: nn.Module) -> Tensor:
    """Return the weight of the layer that writes the pixels: the last of ``decoder``, without biases and norms."""
    return [parameter for parameter in decoder.parameters() if parameter.ndim > 1][-1]


class AdversarialTerm:
    """The adversarial term of the autoencoder's loss, and the discriminator's loss on the same reconstructions.

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
        self._monitor = DiscriminatorMonitor(loss.undecided)
        self._step_inputs: tuple[Tensor, Tensor, float]  # of this step: images, reconstructions, micro-batch weight

    def generator_loss(
        self, step: int, loss: Tensor, x: Tensor, reconstruction: Tensor, micro_batch_weight: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the adversarial term to the autoencoder's loss on a micro-batch.

        Args:
            step: of the training, counted from 0.
            loss: all other terms (scalar).
            x: images (B, C, H, W).
            reconstruction: of ``x``, with the graph of gradients.
            micro_batch_weight: fraction of the batch's rows in ``x``.

        Returns:
            The sum, and the term and its adaptive weight for the log.
        """
        self._step_inputs = x, reconstruction.detach(), micro_batch_weight
        if step < self._enters_at:
            return loss, {}
        self.discriminator.requires_grad_(False)  # its weights get their gradients in its own step
        term = self._loss.generator(self.discriminator(reconstruction))
        self.discriminator.requires_grad_(True)
        ratio = adaptive_weight(loss, term, self._last_layer, self._adaptive_max, micro_batch_weight, self._ranks)
        return loss + self._weight * ratio * term, {"generator_loss": term, "adaptive_weight": ratio}

    def discriminator_loss(self, step: int) -> list[MicroBatch]:
        """Return the discriminator's loss on the images and reconstructions of :meth:`generator_loss` at this step."""
        x, reconstruction, micro_batch_weight = self._step_inputs
        real, fake = self.discriminator(torch.cat([x, reconstruction])).chunk(2)  # (B, 1, h, w) each
        loss = self._loss.discriminator(real, fake)
        terms = {"discriminator_loss": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}
        return [(micro_batch_weight, loss, terms)]

    def on_terms(self, step: int, terms: dict[str, float]) -> None:
        """Check the logged terms of a step. Raises UserError when the adversarial term is infinite or NaN."""
        term = terms.get("generator_loss", 0.0)
        if not math.isfinite(term):
            raise UserError(
                f"autoencoder.adversarial: the adversarial term ({term}) must be finite at step {step}; "
                "lower autoencoder.adversarial.weight or autoencoder.adversarial.lr"
            )
        if "discriminator_loss" in terms:
            self._monitor.update(step, terms["discriminator_loss"])


class DiscriminatorMonitor:
    """Warns once when a discriminator is of no use for many steps: all its logits are near zero, or it never errs.

    Args:
        undecided: its loss where all its logits are zero.
    """

    def __init__(self, undecided: float) -> None:
        self._undecided = undecided
        self._steps = {"undecided": 0, "perfect": 0}  # in a row

    def update(self, step: int, loss: float) -> None:
        """Count the discriminator's loss at ``step``."""
        near = _NEAR * self._undecided
        signs = {
            "undecided": (abs(loss - self._undecided) < near, "found no difference", "raise"),
            "perfect": (loss < near, "made no mistake", "lower"),
        }
        for state, (present, finding, remedy) in signs.items():
            self._steps[state] = self._steps[state] + 1 if present else 0
            if self._steps[state] == _LONG:
                line = "step %d: the discriminator has %s for %d steps (loss %.3g); %s autoencoder.adversarial.lr"
                log.warning(line, step, finding, _LONG, loss, remedy)
