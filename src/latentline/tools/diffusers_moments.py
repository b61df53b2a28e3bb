"""The moment maps of a run of Latentline as a model of diffusers."""

from collections.abc import Sequence

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.moment_matching import MomentMaps


class LatentlineMoments(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Affine maps that give samples of each class the mean and the covariance of its training latents.

    Args:
        latent_shape: of the samples.
        classes: number of classes; 0 = one map for all samples.
        rank: axes of each map.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_shape: Sequence[int], classes: int, rank: int) -> None:
        super().__init__()
        self.network = MomentMaps(latent_shape, classes, rank)

    def forward(self, z0: Tensor, condition: Condition) -> Tensor:
        """Map standardised samples (B, *latent_shape) with the conditions of B examples."""
        return self.network(z0, condition)
