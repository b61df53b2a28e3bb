"""A denoiser behind a text encoder: one network, which trains, is averaged and is stored as one."""

from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.nn.text_encoder import TextEncoder


class TextConditioned(nn.Module):
    """Network that predicts from a noisy latent, its time and a condition with the token ids of captions.

    Args:
        text: maps token ids to states.
        network: denoiser that attends to such states.
    """

    def __init__(self, text: TextEncoder, network: nn.Module) -> None:
        super().__init__()
        self.text = text
        self.network = network

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        r: Tensor | None = None,
        guidance_scale: Tensor | None = None,
    ) -> Tensor:
        """Predict (B, ...) from z_t (B, ...), t (B,) in [0, 1] and the condition of B examples.

        The condition's tokens are ids (B, L), or already states (B, 1 + L, D) of :meth:`encoded`. r and
        the guidance scale, (B,) each, are those of the denoiser.
        """
        return self.network(z_t, t, self.encoded(condition), r, guidance_scale)

    def encoded(self, condition: Condition) -> Condition:
        """Return the condition with states instead of token ids. One that has states already stays as it is."""
        tokens, mask = condition.tokens, condition.mask
        if tokens is None or mask is None:
            raise ValueError("condition (no tokens, or no mask) must have both; take it from Conditioning.encode")
        if tokens.is_floating_point():
            return condition
        return Condition(condition.vector, *self.text(tokens, mask))


def encoded_condition(network: object, condition: Condition) -> Condition:
    """Return the condition as ``network`` takes it fastest, for many evaluations of one condition.

    The text encoder does not depend on the latent or the time, so that one evaluation serves all steps of a sampler.
    """
    return network.encoded(condition) if isinstance(network, TextConditioned) else condition
