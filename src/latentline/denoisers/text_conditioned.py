"""A denoiser behind a text encoder: one network, which trains, is averaged and is stored as one."""

from collections.abc import Callable

from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.nn.text_encoder import StateProjection, TextEncoder


class TextConditioned(nn.Module):
    """Network that predicts from a noisy latent, its time and a condition with captions.

    Args:
        text: maps token ids, or the states of a pretrained encoder, to the states that the network attends to.
        network: denoiser that attends to such states.
    """

    def __init__(self, text: TextEncoder | StateProjection, network: nn.Module) -> None:
        super().__init__()
        self.text = text
        self.network = network

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        """Predict (B, ...) from z_t (B, ...), t (B,) in [0, 1] and the condition of B examples.

        The condition's tokens are those of :class:`latentline.denoisers.conditioning.Conditioning`, or already states
        (B, 1 + L, D) of :meth:`encoded`. r (B,) is that of the denoiser.
        """
        return self.network(z_t, t, self.encoded(condition), r)

    def encoded(self, condition: Condition) -> Condition:
        """Return the condition with the states that the network attends to, unless it has them already."""
        tokens, mask = condition.tokens, condition.mask
        if tokens is None or mask is None:
            raise ValueError("condition (no tokens, or no mask) must have both; take it from Conditioning.encode")
        if self.text.is_encoded(tokens):
            return condition
        return Condition(condition.vector, *self.text(tokens, mask))


def encoded_condition(network: object, condition: Condition) -> Condition:
    """Return the condition as ``network`` takes it fastest, for many evaluations of one condition.

    The text encoder does not depend on the latent or the time, so that one evaluation serves all steps of a sampler.
    A network that has one has a method ``encoded``, as :class:`TextConditioned` does.
    """
    encoded: Callable[[Condition], Condition] | None = getattr(network, "encoded", None)
    return condition if encoded is None else encoded(condition)
