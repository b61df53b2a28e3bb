"""Section ``text``: tokens of captions."""

from typing import Annotated

from pydantic import Field

from latentline.core.params import Section


class TextParams(Section):
    """Settings of the tokenizer, which stage ``encode_and_cache_latents`` trains on the captions."""

    vocabulary_size: Annotated[int, Field(ge=256, le=65_536)] = 2000
    """Upper limit of the tokenizer's different tokens: 256 bytes, and the commonest words and parts of words."""
    length: Annotated[int, Field(ge=1, le=1024)] = 32
    """Tokens of a caption; longer captions are cut, and the log counts them."""
