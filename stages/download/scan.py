"""A first look at every image, without decoding it: what it is, how large it is, whether it is an image at all."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentline.core.errors import UserError
from latentline.data.decode import Shape, UnreadableError
from stages.download.images import Images
from stages.download.workers import ordered_map

_CHUNK = 256  # images a worker looks at in one go


@dataclass(frozen=True)
class Survey:
    """What is known of one of the publisher's splits."""

    rows: NDArray[np.int64]  # (N,) that look readable
    digests: list[bytes]  # N of them, of the content as the source holds it
    shapes: Counter[Shape]
    unreadable: dict[str, str]  # name -> reason


def survey(images: Images, workers: int) -> Survey:
    """Look at all ``images`` in ``workers`` processes."""
    rows: list[int] = []
    digests: list[bytes] = []
    shapes: Counter[Shape] = Counter()
    unreadable: dict[str, str] = {}
    chunks = [range(start, min(start + _CHUNK, len(images))) for start in range(0, len(images), _CHUNK)]
    with tqdm(total=len(images), desc="survey", unit=" images", disable=None, mininterval=1) as bar:
        for chunk, found in zip(chunks, ordered_map(partial(_survey_rows, images), chunks, workers if images.encoded else 0), strict=True):
            rows += found.rows.tolist()
            digests += found.digests
            shapes += found.shapes
            unreadable |= found.unreadable
            bar.update(len(chunk))
    return Survey(np.array(rows, np.int64), digests, shapes, unreadable)


def target_shape(surveys: list[Survey], image_size: tuple[int, int] | None, channels: int | None) -> Shape:
    """(C, H, W) that all images get: as asked for; else the commonest size (of equally common ones the largest), and colour if any has it."""
    shapes = sum((found.shapes for found in surveys), Counter[Shape]())
    if not shapes:
        raise UserError("data: no readable image; expected some; mend or add images")
    sizes: Counter[tuple[int, int]] = Counter()
    for (_, height, width), count in shapes.items():
        sizes[height, width] += count
    height, width = image_size or max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    return channels or max(shape[0] for shape in shapes), height, width


def _survey_rows(images: Images, chunk: range) -> Survey:
    """Runs in a worker."""
    rows, digests, unreadable = [], [], {}
    shapes: Counter[Shape] = Counter()
    for row in chunk:
        try:
            facts = images.facts(row)
        except UnreadableError as error:
            unreadable[images.name(row)] = str(error)
            continue
        rows.append(row)
        digests.append(facts.digest)
        shapes[facts.shape] += 1
    return Survey(np.array(rows, np.int64), digests, shapes, unreadable)
