"""A tokenizer of captions, read from a folder as diffusers reads the parts of a pipeline."""

import json
from pathlib import Path
from typing import Any

from latentline.latents.tokenizer import CaptionTokenizer

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"


class LatentlineTokenizer:
    """Tokenizer that maps each caption to ids, cut or padded to one length.

    Args:
        captions: the tokenizer.
    """

    def __init__(self, captions: CaptionTokenizer) -> None:
        self.captions = captions

    @classmethod
    def from_pretrained(cls, folder: str, **_: Any) -> "LatentlineTokenizer":
        """Read tokenizer.json and, from tokenizer_config.json, the length."""
        length = json.loads((Path(folder) / TOKENIZER_CONFIG).read_text(encoding="utf-8"))["length"]
        return cls(CaptionTokenizer((Path(folder) / TOKENIZER).read_text(encoding="utf-8"), length))
