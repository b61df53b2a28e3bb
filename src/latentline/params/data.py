"""Section ``data``: which images, and how they are prepared."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.params.base import Positive, Section


class DataParams(Section):
    """Knobs of stage ``download``."""

    name: Literal["fashion_mnist", "digits"]
    """Data set."""
    root: str | None
    """Folder that already holds the data set's files; null = fetch them."""
    limit: Positive | None
    """First N images of each split after a seeded shuffle; null = all."""
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of the training images held out for validation (seeded)."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    """A source that sends nothing for so long is given up."""
