"""Section ``data``: which images, and how they are prepared."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latentline.core.params import Fraction, Pixels, Positive, Section

_CHARACTERS = ("mnist", "emnist", "svhn", "digits")
"""Data sets in which a mirrored image is another character, or none."""


class SplitParams(Section):
    """Shares cut from the training images, each only where the source has no such split."""

    val: Annotated[float, Field(gt=0, lt=0.5)]
    """Held out for validation."""
    test: Annotated[float, Field(gt=0, lt=0.5)]
    """Held out for the scores."""


class DataParams(Section):
    """Knobs of stage ``download``."""

    name: Literal[
        "mnist",
        "fashion_mnist",
        "emnist",
        "cifar10",
        "cifar100",
        "svhn",
        "celeba",
        "chestmnist",
        "octmnist",
        "tissuemnist",
        "pneumoniamnist",
        "tinyimagenet",
        "places365",
        "dtd",
        "imagenet",
        "digits",
        "image_folder",
        "array",
        "huggingface",
    ]
    """Data set."""
    path: Annotated[str, Field(min_length=1)]
    """The user's own images: what ``image_folder``, ``array`` and ``huggingface`` read. A dependency of the stage, so never null."""
    labels: Annotated[str, Field(min_length=1)]
    """CSV of labels for ``image_folder``; an empty file = labels are the sub-folders. A dependency of the stage, so never null."""
    root: str | None
    """Folder that already holds the publisher's files of a named data set; null = fetch them."""
    classes: Annotated[list[str], Field(min_length=1)] | None
    """Names of the classes whose images are kept, as if there were no others; null = all images."""
    limit: Positive | None
    """First N images of each split after a seeded shuffle; null = all."""
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None
    """Pixels, one number or [height, width]; null = the data's own size, or the commonest one."""
    channels: Literal[1, 3] | None
    """1 = grey, 3 = colour; null = the data's own."""
    splits: SplitParams
    max_unreadable: Fraction
    """Share of images that may be unreadable; above it the stage fails."""
    horizontal_flip: bool
    """Whether the autoencoder trains on mirrored images too."""
    emnist_split: Literal["balanced", "byclass", "bymerge"]
    """Which classes of EMNIST."""
    medmnist_size: Literal[28, 64, 128, 224]
    """Which of MedMNIST's sizes is fetched, in pixels."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    """A source that sends nothing for so long is given up."""

    @model_validator(mode="after")
    def _no_mirrored_characters(self) -> "DataParams":
        if self.horizontal_flip and self.name in _CHARACTERS:
            raise ValueError(f"data.horizontal_flip: true would mirror the characters of {self.name}; expected false for it; set it to false")
        return self
