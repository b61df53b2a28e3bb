"""Section ``latents``: the cache of encoded images."""

from typing import Literal

from latentline.params.base import Section


class LatentsParams(Section):
    """Knobs of stage ``encode_and_cache_latents``."""

    dtype: Literal["float16", "float32"]
    """Number format of the cached latents."""
