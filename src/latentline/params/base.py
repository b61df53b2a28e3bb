"""What every section of params.yaml shares."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section: frozen, no unknown keys, no NaN or infinity, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=8, multiple_of=8)]
"""Channels; a multiple of the 8 normalisation groups."""
Widths = Annotated[list[Width], Field(min_length=1)]
"""Channels per level."""
