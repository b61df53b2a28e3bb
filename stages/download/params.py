"""Section ``data``: the images and their preparation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latentline.core.params import Fraction, Pixels, Positive, Section

_CHARACTERS = ("mnist", "emnist", "svhn", "digits")
"""Data sets of characters, which mirrored are other characters, or none."""


AttributeName = Annotated[str, Field(min_length=1)]


class SplitParams(Section):
    """Fractions of the training images, each used only where the source has no such split."""

    val: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Fraction held out for validation."""
    test: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Fraction held out for the metrics."""


class DataParams(Section):
    """Settings of stage ``download``."""

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
    ] = "fashion_mnist"
    """Data set: mnist | fashion_mnist | emnist | cifar10 | cifar100 | svhn | celeba | chestmnist | octmnist |
    tissuemnist | pneumoniamnist | tinyimagenet | places365 | dtd | imagenet | digits (needs no network) | image_folder
    | array | huggingface; see docs/data.md."""
    path: Annotated[str, Field(min_length=1)] = "data/source"
    """Your own images (image_folder, array, huggingface). DVC depends on this path, so it is never null."""
    labels: Annotated[str, Field(min_length=1)] = "data/source/no_labels.csv"
    """CSV of labels for image_folder; an empty file = the sub-folders are the labels; never null, see path."""
    attributes: dict[AttributeName, Literal["binary", "categorical", "continuous"]] = Field(default={})
    """Kinds of columns of labels, such as {age: continuous, smiling: binary}; {} = by the rule of docs/data.md."""
    missing: Literal["refuse", "drop", "ignore"] = "refuse"
    """Rows without a value of their label or of an attribute: refuse | drop (leave the image out and count it) | ignore
    (keep the image and leave the value out of losses and scores; of attributes only)."""
    root: str | None = None
    """Folder that already holds the publisher's files of a named data set; null = fetch them."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes to keep, by name, such as [Pullover, Sneaker]; null = all images."""
    limit: Positive | None = None
    """First N images of each split after a seeded shuffle; null = all."""
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = None
    """Pixels: one number, such as 64, or [height, width]; null = the data's own size, or the commonest one of a
    folder."""
    channels: Literal[1, 3] | None = None
    """1 = grey, 3 = colour; null = the data's own."""
    value_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Stored values [low, high] that become black and white, such as [0, 4095] for 12 bits in 16-bit files; null = the
    ends of the file's number format."""
    splits: SplitParams = SplitParams()
    """Fractions of the training images, each used only where the source has no such split."""
    max_unreadable: Fraction = 0.01
    """Fraction of the images that may be unreadable; above it the stage fails."""
    captions: Literal["auto", "none"] = "auto"
    """auto = captions of your own images, from a column or from files, as docs/data.md has it; none = use no captions.
    """
    max_missing_captions: Fraction = 0.1
    """Fraction of a split's images that may lack a caption, where there are captions; above it the stage fails."""
    horizontal_flip: bool = False
    """Train the autoencoder on mirrored images too; wrong for letters and digits."""
    emnist_split: Literal["balanced", "byclass", "bymerge"] = "balanced"
    """balanced | byclass | bymerge: set of classes; emnist only."""
    medmnist_size: Literal[28, 64, 128, 224] = 28
    """28 | 64 | 128 | 224: size to fetch, in pixels; MedMNIST's data sets only."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Seconds without data after which a download fails."""

    @model_validator(mode="after")
    def _range_ascends(self) -> "DataParams":
        if self.value_range and self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"data.value_range ({self.value_range}) must be [low, high] with low < high; correct it")
        return self

    @model_validator(mode="after")
    def _no_mirrored_characters(self) -> "DataParams":
        if self.horizontal_flip and self.name in _CHARACTERS:
            raise ValueError(f"data.horizontal_flip (true) must be false for the characters of {self.name}; set it so")
        return self
