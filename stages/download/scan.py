"""Scan of all images without decoding them: digest, shape, and whether the file is an image."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentline.core.errors import UserError
from latentline.data.decode import Shape, UnreadableError
from stages.download.images import Images
from stages.download.listed import MAX_LISTED, Cropped, Unreadable
from stages.download.source import Source
from stages.download.workers import ordered_map

_CHUNK = 256  # images that a worker scans at a time
_ROUNDING = 0.01  # of an image that is cut off


@dataclass(frozen=True)
class Scan:
    """Scan of one of the publisher's splits, or of a part of one."""

    rows: NDArray[np.int64]  # (N,) of images with a readable header
    digests: list[bytes]  # of the N images' stored content
    shapes: list[Shape]  # of the N images
    unreadable: Unreadable


def scan_images(images: Images, workers: int) -> Scan:
    """Scan all ``images`` in ``workers`` processes."""
    rows: list[int] = []
    digests: list[bytes] = []
    shapes: list[Shape] = []
    unreadable = Unreadable()
    chunks = [range(start, min(start + _CHUNK, len(images))) for start in range(0, len(images), _CHUNK)]
    with tqdm(total=len(images), desc="scan", unit=" images", disable=None, mininterval=1) as bar:
        for chunk, found in zip(
            chunks, ordered_map(partial(_scan_rows, images), chunks, workers if images.encoded else 0), strict=True
        ):
            rows += found.rows.tolist()
            digests += found.digests
            shapes += found.shapes
            unreadable.update(found.unreadable)
            bar.update(len(chunk))
    return Scan(np.array(rows, np.int64), digests, shapes, unreadable)


def target_shape(scans: list[Scan], image_size: tuple[int, int] | None, channels: int | None) -> Shape:
    """Return (C, H, W) of the prepared images.

    Without an ``image_size`` it is the commonest size, the largest of equally common ones. Without ``channels`` it is
    colour if any image is in colour.
    """
    shapes = sum((Counter(found.shapes) for found in scans), Counter[Shape]())
    if not shapes:
        raise UserError("data (0 readable images) must have at least one; mend or add images")
    sizes: Counter[tuple[int, int]] = Counter()
    for (_, height, width), count in shapes.items():
        sizes[height, width] += count
    height, width = image_size or max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    return channels or max(shape[0] for shape in shapes), height, width


def cropped(scanned: Iterable[tuple[Images, Scan]], shape: Shape) -> Cropped:
    """Return the images of all splits with other proportions than ``shape``, rounding aside."""
    _, height, width = shape
    count, worst = 0, list[tuple[str, float]]()
    for images, scan in scanned:
        stretch = np.array([own[2] * height / (own[1] * width) for own in scan.shapes])
        lost = 1 - np.minimum(stretch, 1 / stretch)
        order = np.argsort(-lost, kind="stable")[: int((lost > _ROUNDING).sum())]
        count += len(order)
        worst += [(images.name(int(scan.rows[index])), float(lost[index])) for index in order[:MAX_LISTED]]
    return Cropped(count, sorted(worst, key=lambda image: -image[1])[:MAX_LISTED])


def require_all_classes(scans: dict[str, Scan], source: Source) -> None:
    """Raise UserError for a class that has images in a split, and none of them readable."""
    for name, split in source.splits.items():
        if split.labels is None:
            continue
        lost = np.setdiff1d(split.labels, split.labels[scans[name].rows])
        if len(lost):
            raise UserError(
                f"data: class {source.card.classes[lost[0]]} (0 readable images in {name}) must have at least one; "
                "mend its images, or remove all of them"
            )


def _scan_rows(images: Images, chunk: range) -> Scan:
    """Scan some rows; runs in a worker."""
    rows, digests, shapes, reasons = [], [], [], {}
    for row in chunk:
        try:
            info = images.info(row)
        except UnreadableError as error:
            reasons[images.name(row)] = str(error)
            continue
        rows.append(row)
        digests.append(info.digest)
        shapes.append(info.shape)
    return Scan(np.array(rows, np.int64), digests, shapes, Unreadable(len(reasons), reasons))
