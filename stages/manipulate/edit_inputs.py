"""Images to edit: test images, or a folder of the user's, with their labels and latents."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, class_names
from latentline.core.paths import PREPARED
from latentline.core.shards import ShardedArray
from latentline.data.captions import read_captions
from latentline.data.decode import FORMATS_IN_WORDS, Shape, UnreadableError, ValueRange, decode, fit
from latentline.data.image_files import LITTER, in_words, is_litter, kind_left_out
from latentline.data.store import read_card, read_split
from latentline.editing.targets import Target, require_names
from latentline.feature_extractors.load import FeatureExtractor
from latentline.latents.cache import LatentStats, read_latents
from stages.manipulate.params import ManipulateParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EditBatch:
    """Images in memory, with what an edit needs of each."""

    indices: Tensor
    """Of the images in the pool, int64 (B,)."""
    images: Tensor
    """Uint8 (B, C, H, W)."""
    labels: LabelTable
    z0: Tensor
    """Standardised and flat (B, F)."""
    noise: Tensor | None
    """Noise (B, *noise_shape) that decodes to the images; None where the autoencoder decodes from the latent alone."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> "EditBatch":
        """Return the batch of some rows, int64 (b,)."""
        noise = None if self.noise is None else self.noise[rows]
        return EditBatch(self.indices[rows], self.images[rows], self.labels[rows], self.z0[rows], noise)


@dataclass(frozen=True)
class EditPool:
    """All images that may be edited, in memory or on disk."""

    images: Tensor | ShardedArray
    """Uint8 (N, C, H, W)."""
    labels: LabelTable
    raw: Tensor | ShardedArray
    """Raw latents (N, *latent_shape)."""
    captions: list[str] | None = None
    """Of test images, where they have any; "" = this image has none."""

    def batch(self, rows: Tensor, autoencoder: TrainedAutoencoder, stats: LatentStats) -> EditBatch:
        """Read the images of ``rows`` (B,); an autoencoder with noise inverts each of them."""
        images, raw = self.images[rows], self.raw[rows]
        noise = None if autoencoder.network.noise_shape is None else autoencoder.invert(images, raw)
        return EditBatch(rows, images, self.labels[rows], stats.normalizer.standardise(raw).flatten(1), noise)


def read_edit_pool(folder: Path, autoencoder: TrainedAutoencoder, extractor: FeatureExtractor) -> EditPool:
    """Read the images in ``folder`` (``manipulate.files``); where it holds none, the test split.

    The labels of a folder's images are the feature extractor's predictions.

    Raises:
        UserError: no such folder, or an unreadable file.
    """
    if paths := image_files(folder):
        if left_out := _sorted_out(folder)[1]:
            log.warning("left out of manipulate.files: %s; only images directly in it are edited", in_words(left_out))
        card = read_card(PREPARED)
        images = read_images(paths, card.shape, card.value_range)
        labels = LabelTable(extractor.schema, extractor.extract(images)[1])
        return EditPool(images, labels, autoencoder.encode(images))
    test = read_split(PREPARED, "test")
    return EditPool(test.images, test.labels, read_latents("test").latents, read_captions(PREPARED, "test"))


def select_rows(params: ManipulateParams, labels: LabelTable) -> Tensor:
    """Return the rows int64 (M,) of the images that ``params`` ask for, among those with ``labels``.

    Raises:
        UserError: an index beyond the images, or an unknown class.
    """
    rows = torch.arange(len(labels))
    if params.images is not None:
        if max(params.images) >= len(labels):
            raise UserError(
                f"manipulate.images ({max(params.images)}) must be from 0 to {len(labels) - 1}; correct the index"
            )
        rows = torch.tensor(params.images)
    if params.source_class is not None:
        classes = class_names(labels.schema)
        require_names("manipulate.source_class", [params.source_class], classes)
        rows = rows[labels.values[rows, 0] == classes.index(params.source_class)]  # the class is the first column
    return rows


def select_batch(
    pool: EditPool,
    rows: Tensor,
    targets: Sequence[Target],
    count: int,
    autoencoder: TrainedAutoencoder,
    stats: LatentStats,
) -> EditBatch:
    """Read those of ``rows`` (M,) that are edited towards some target, the first ``count`` for each.

    The others are left out, since each image of an autoencoder with noise costs an inversion.
    """
    values = pool.labels.values[rows]
    edited = torch.cat([target.non_matching(values, count) for target in targets]).unique()
    return pool.batch(rows[edited], autoencoder, stats)


def image_files(folder: Path) -> list[Path]:
    """Return the images directly in ``folder`` by name.

    Raises:
        UserError: it is no folder, or holds files or folders but no image.
    """
    if not folder.is_dir():
        raise UserError(
            f"manipulate.files ({folder}) must be a folder; correct the name, or set data/edit to edit test images"
        )
    images, left_out = _sorted_out(folder)
    if left_out and not images:
        raise UserError(
            f"manipulate.files ({folder} with {in_words(left_out)}) must hold images ({FORMATS_IN_WORDS}), or nothing "
            "to edit test images; put images directly into it, or empty it"
        )
    return images


def _sorted_out(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Return the images directly in ``folder``, and how many files and folders of each other kind it holds."""
    images = []
    left_out: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir() and not is_litter(path.name)
        kind = "sub-folders" if is_folder else kind_left_out(path)
        if kind is None:
            images.append(path)
        elif kind != LITTER:
            left_out[kind] += 1
    return images, left_out


def read_images(paths: list[Path], shape: Shape, value_range: ValueRange | None = None) -> Tensor:
    """Read image files as uint8 (N, C, H, W) of ``shape``, stretched, cropped and resized as ``download`` does it.

    Raises:
        UserError: an unreadable file.
    """
    images = []
    for path in paths:
        try:
            if path.exists() and not path.is_file():  # reading a pipe would wait
                raise UnreadableError("not a regular file")
            images.append(torch.tensor(fit(decode(path.read_bytes(), value_range), shape)))
        except (OSError, UnreadableError) as error:
            raise UserError(
                f"manipulate.files ({path}) must be a readable image ({error}); remove it from the folder"
            ) from None
    return torch.stack(images)
