"""A denoiser of Latentline as a model of diffusers."""

from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.text_conditioned import encoded_condition


class LatentlineDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Network that predicts from noisy standardised latents, their times and a condition.

    Args:
        name: kind of the network: unet | dit | mlp.
        constructor: its arguments.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, name: str, constructor: dict[str, Any]) -> None:
        super().__init__()
        self.network = build_denoiser(name, **constructor)

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition, *average: Tensor) -> Tensor:
        """Predict (B, ...) from z_t (B, ...), t (B,) in [0, 1] and the condition of B examples.

        ``average``: r (B,) where the network has learnt average velocities.
        """
        return self.network(z_t, t, condition, *average)

    def encoded(self, condition: Condition) -> Condition:
        """Return the condition with its tokens encoded, once for all steps of a sampler."""
        return encoded_condition(self.network, condition)
