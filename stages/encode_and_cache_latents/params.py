"""Section ``latents``: the cache of encoded images."""

from typing import Literal

from latentline.core.params import PositiveFloat, Section


class LatentsParams(Section):
    """Settings of stage ``encode_and_cache_latents``."""

    dtype: Literal["float16", "float32"] = "float16"
    """float16 | float32: number format of the cached latents."""
    posterior: Literal["mean", "sample"] = "mean"
    """mean | sample (one seeded draw): latent of a vae to cache; other autoencoders give one latent only."""
    scaling: Literal["per_channel"] | PositiveFloat = "per_channel"
    """per_channel (standardise by each channel's mean and standard deviation) | a number to multiply by, such as
    0.18215."""
    export: Literal["npz", "parquet", "safetensors"] | None = None
    """npz | parquet | safetensors: format of a copy of all latents, labels and attributes for other tools, in
    encoded_img/export; null = no copy."""
