"""What every section of params.yaml shares."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section: frozen, no unknown keys, no NaN or infinity, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


_MOST = 10**9  # above it a number is a slip of the hand, and some would overflow
Positive = Annotated[int, Field(ge=1, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
"""Solver steps."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Layers or blocks, one after another."""
Blocks = Annotated[int, Field(ge=0, le=1000)]
"""As :data:`Depth`, or none."""
Pixels = Annotated[int, Field(ge=1, le=16_384)]
"""A side of an image."""
Width = Annotated[int, Field(ge=8, le=65_536, multiple_of=8)]
"""Channels; a multiple of the 8 normalisation groups."""
Widths = Annotated[list[Width], Field(min_length=1, max_length=16)]
"""Channels per level."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Hex digest of a file."""
NO_WEIGHTS = "data/no_weights"
"""An empty folder: what ``init_from`` says where a training begins with random weights. DVC watches that path, so it is never null."""


def require_weights_to_check(section: str, init_from: str, sha256: str | None) -> None:
    """Raise ValueError where ``init_from_sha256`` is given and no weights are."""
    if init_from == NO_WEIGHTS and sha256 is not None:
        raise ValueError(
            f"{section}.init_from_sha256: {sha256}, but {section}.init_from is {NO_WEIGHTS}; expected null, or the folder of the weights that "
            "have it; set one"
        )
