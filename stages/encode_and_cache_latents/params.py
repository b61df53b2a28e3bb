"""Section ``latents``: the cache of encoded images."""

from typing import Literal

from latentline.core.params import PositiveFloat, Section


class LatentsParams(Section):
    """Knobs of stage ``encode_and_cache_latents``."""

    dtype: Literal["float16", "float32"]
    """Number format of the cached latents."""
    posterior: Literal["mean", "sample"]
    """What is cached of an autoencoder that gives a distribution: its mean, or one seeded draw. The others give one latent anyway."""
    scaling: Literal["per_channel"] | PositiveFloat
    """Standardise by each channel's own mean and standard deviation, or multiply all by one number."""
    export: Literal["npz", "parquet", "safetensors"] | None
    """Format of a second copy for other tools, with all that is known of the images; null = none."""
