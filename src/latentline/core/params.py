"""Base class and field types of the sections of params.yaml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section: frozen, no unknown keys, no NaN or infinity, no silent conversion of types.

    A field is a setting. Its default is the value in recipes/default.yaml, and the docstring under it is the comment
    there; ``make params`` writes both. Params files still have to name every setting (``load_params.py``). Lists are
    given as ``Field(default=[...])``.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


LARGEST_INTEGER = 10**9
"""Upper limit of every integer without a lower one: above it a number is a slip, and some would overflow."""
Positive = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(ge=0, le=100)]
"""Scale of guidance or of noise; the limit is far beyond use, and above it numbers overflow."""
Steps = Annotated[int, Field(ge=1, le=100_000)]
"""Solver steps."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Layers or blocks, one after another."""
Blocks = Annotated[int, Field(ge=0, le=1000)]
"""Layers or blocks, one after another, or none."""
Pixels = Annotated[int, Field(ge=1, le=16_384)]
"""A side of an image."""
Width = Annotated[int, Field(ge=8, le=65_536, multiple_of=8)]
"""Channels; a multiple of the 8 normalisation groups."""
Widths = Annotated[list[Width], Field(min_length=1, max_length=16)]
"""Channels per level."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Hex digest of a file."""
NO_WEIGHTS = "data/no_weights"
"""An empty folder: the value of ``init_from`` for random initial weights. DVC depends on that path, so it is never
null."""
NO_PROMPTS = "data/no_prompts.txt"
"""An empty file: the value of ``sample.prompts_file`` for no prompts."""


def require_weights_to_check(section: str, init_from: str, sha256: str | None) -> None:
    """Raise ValueError where ``init_from_sha256`` is given without weights to check."""
    if init_from == NO_WEIGHTS and sha256 is not None:
        raise ValueError(
            f"{section}.init_from_sha256 ({sha256}) must be null while {section}.init_from is {NO_WEIGHTS}; "
            f"set it to null, or {section}.init_from to the folder of these weights"
        )
