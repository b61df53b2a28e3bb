"""The images that are edited: test images, or a folder of the user's."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, inference_batch
from latentline.core.errors import UserError
from latentline.core.paths import PREPARED
from latentline.core.shards import ShardedArray
from latentline.data.decode import SUFFIXES, Shape, UnreadableError, decode, fit
from latentline.data.store import read_card, read_split, to_unit_range
from latentline.editing.targets import require_names
from latentline.feature_extractors.load import FeatureExtractor
from latentline.latents.cache import LatentStats, read_latents
from stages.manipulate.params import ManipulateParams


@dataclass(frozen=True)
class Pictures:
    """Images that are edited, what is known of them, and their codes."""

    numbers: Tensor  # (N,), of the images among all
    images: Tensor  # uint8 (N, C, H, W)
    values: Tensor  # (N, A)
    z0: Tensor  # standardised and flat (N, F)
    noise: Tensor | None  # their own stochastic codes (N, *noise_shape), of a codec that decodes from noise

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> "Pictures":
        """Those of ``rows`` (B,)."""
        noise = None if self.noise is None else self.noise[rows]
        return Pictures(self.numbers[rows], self.images[rows], self.values[rows], self.z0[rows], noise)


@dataclass(frozen=True)
class Choice:
    """All images that may be edited."""

    images: Tensor | ShardedArray  # uint8 (N, C, H, W)
    values: Tensor  # (N, A)
    raw: Tensor | ShardedArray  # latents (N, *latent_shape)

    def pictures(self, rows: Tensor, autoencoder: TrainedAutoencoder, stats: LatentStats) -> Pictures:
        """Those of ``rows`` (B,), each with the noise that it is decoded from, where the codec decodes from noise."""
        images, raw = self.images[rows], self.raw[rows]
        noise = None if autoencoder.network.noise_shape is None else autoencoder.invert(images, raw)
        return Pictures(rows, images, self.values[rows], stats.normalizer.standardise(raw).flatten(1), noise)


def read_choice(folder: Path, autoencoder: TrainedAutoencoder, judge: FeatureExtractor) -> Choice:
    """The images in ``folder`` (``manipulate.files``), or else the test split. What is known of a file is what the judge sees.

    Raises:
        UserError: no such folder, or an unreadable file.
    """
    if paths := image_files(folder):
        images = read_images(paths, read_card(PREPARED).shape)
        return Choice(images, judge.look(images)[1], encode_images(autoencoder, images))
    test = read_split(PREPARED, "test")
    return Choice(test.images, test.labels.values, read_latents("test").latents)


def chosen_rows(params: ManipulateParams, stats: LatentStats, values: Tensor) -> Tensor:
    """Which of the images, of which ``values`` (N, A) are known, are asked for: int64 (M,).

    Raises:
        UserError: a number beyond the images, or a class that is none of theirs.
    """
    rows = torch.arange(len(values))
    if params.images is not None:
        if max(params.images) >= len(values):
            raise UserError(
                f"manipulate.images: {max(params.images)} is no image's number; expected 0 to {len(values) - 1}; correct it"
            )
        rows = torch.tensor(params.images)
    if params.source_class is not None:
        require_names("manipulate.source_class", [params.source_class], stats.classes)
        rows = rows[
            values[rows, 0] == stats.classes.index(params.source_class)
        ]  # where there is a class, it is the first column
    return rows


def image_files(folder: Path) -> list[Path]:
    """The images in ``folder``, by name; hidden files are passed over. Raises UserError when it is no folder."""
    if not folder.is_dir():
        raise UserError(
            f"manipulate.files: {folder} is not a folder; expected one of images to edit, or data/edit for none; correct the name"
        )
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def read_images(paths: list[Path], shape: Shape) -> Tensor:
    """Image files -> uint8 (N, C, H, W) of ``shape``, cropped and resized as ``download`` does it. Raises UserError on an unreadable one."""
    images = []
    for path in paths:
        try:
            images.append(torch.tensor(fit(decode(path.read_bytes()), shape)))
        except (OSError, UnreadableError) as error:
            raise UserError(
                f"{path}: unreadable ({error}); expected an image; remove it from manipulate.files"
            ) from None
    return torch.stack(images)


@torch.no_grad()
def encode_images(autoencoder: TrainedAutoencoder, images: Tensor) -> Tensor:
    """uint8 images (N, C, H, W) -> raw latents (N, *latent_shape) on the CPU."""
    batches = images.split(inference_batch(autoencoder.image_shape))
    return torch.cat(
        [autoencoder.network.encode(to_unit_range(batch).to(autoencoder.device)).cpu() for batch in batches]
    )
