"""Section ``text``: tokens and encoder of captions."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latentline.core.params import NO_WEIGHTS, Section


class TextParams(Section):
    """Settings of the captions' tokens and states, which stage ``encode_and_cache_latents`` computes."""

    encoder: Literal["transformer", "pretrained"] = "transformer"
    """transformer (trained with the denoiser) | pretrained (CLIP or T5 in path, frozen): network that reads the
    captions; see docs/text.md."""
    path: Annotated[str, Field(min_length=1)] = NO_WEIGHTS
    """Folder of a CLIP or T5 text model with its tokenizer, as save_pretrained of transformers writes it; pretrained
    only. DVC depends on this path, so it is never null."""
    vocabulary_size: Annotated[int, Field(ge=256, le=65_536)] = 2000
    """Upper limit of the tokenizer's different tokens: 256 bytes, and the commonest words and parts of words;
    transformer only."""
    length: Annotated[int, Field(ge=1, le=1024)] = 32
    """Tokens of a caption; longer captions are cut, and the log counts them."""

    @model_validator(mode="after")
    def _pretrained_has_a_folder(self) -> "TextParams":
        if self.encoder == "pretrained" and self.path == NO_WEIGHTS:
            raise ValueError(
                f"text.path ({self.path}) must be the folder of a CLIP or T5 text model while text.encoder is "
                "pretrained; set it, or text.encoder to transformer"
            )
        return self
