"""The captions that samples are conditioned on, and the labels that belong to them."""

from pathlib import Path

from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, Schema
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.latents.tokens import read_test_labels, read_tokens
from stages.sample.params import SampleParams


def read_prompts(params: SampleParams, tokenizer: CaptionTokenizer, schema: Schema) -> tuple[Tensor, LabelTable | None]:
    """Return the tokens int32 (P, L) of the prompts: those of the settings, else the captions of the test images.

    The labels of P test images come with their captions, so that both agree. Prompts of the settings have none: None.

    Raises:
        UserError: the file of prompts is missing or no text, or the captions were encoded by another tokenizer.
    """
    prompts = params.prompts or _lines(Path(params.prompts_file))
    if prompts:
        return tokenizer.encode(prompts, "prompts"), None
    return read_tokens("test", tokenizer), read_test_labels(schema, tokenizer)


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8
        reason = " ".join(str(error).split())
        raise UserError(
            f"sample.prompts_file ({path}: {reason}) must be readable UTF-8 text; mend it, or take sample.prompts"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]
