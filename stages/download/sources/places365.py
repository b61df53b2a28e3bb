"""Places365-Standard, small images (256x256): 1,803,460 + 36,500 scenes in 365 classes.

Format (http://places2.csail.mit.edu/download.html):

train_256_places365standard.tar   ``data_256_standard/a/airfield/00000001.jpg`` ...
val_256.tar                       ``val_256/Places365_val_00000001.jpg`` ...
filelist_places365-standard.tar   ``places365_train_standard.txt``, with lines such as ``/a/airfield/00000001.jpg 0``,
                                  and ``places365_val.txt``, with lines such as ``Places365_val_00000001.jpg 165``
categories_places365.txt          lines such as ``/a/airfield 0``

Labels of the publisher's test images are not public, so the publisher's val is our test.
"""

from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from stages.download.archives import TarImages, read_span, tar_spans
from stages.download.fetch import md5
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "http://places2.csail.mit.edu/download.html"


def read_places365(options: SourceOptions) -> Source:
    """Return train, and val as test."""
    from torchvision.datasets import Places365  # here, since its import takes seconds

    published = [
        Places365._IMAGES_META["train-standard", True],
        Places365._IMAGES_META["val", True],
        Places365._DEVKIT_META["standard"],
    ]
    files = [md5(name, digest, Places365._BASE_URL + name) for name, digest in [*published, Places365._CATEGORIES_META]]
    train, val, lists, categories = publisher_files(options, "Places365", files, _PAGE).values()
    numbered = dict(line.rsplit(" ", 1) for line in categories.read_text(encoding="utf-8").splitlines())
    classes = tuple(name.removeprefix("/")[2:] for name in sorted(numbered, key=lambda name: int(numbered[name])))
    splits = {
        "train": _split(train, "data_256_standard", lists, "places365_train_standard.txt", len(classes)),
        "test": _split(val, "val_256/", lists, "places365_val.txt", len(classes)),
    }
    card = Card(
        name="places365",
        classes=classes,
        licence="for non-commercial research and education only",
        source=_PAGE,
        citation="B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba: Places: A 10 Million Image Database "
        "for Scene Recognition. TPAMI 2017",
    )
    return Source(card, splits)


def _split(images: Path, folder: str, lists: Path, name: str, classes: int) -> SourceSplit:
    spans, tables = tar_spans(images), tar_spans(lists)
    try:
        rows = [line.rsplit(" ", 1) for line in read_span(lists, tables[name]).decode("utf-8").splitlines()]
        members = [folder + file for file, _ in rows]
        labels = np.array([int(label) for _, label in rows], np.int64)
        split = SourceSplit(TarImages(members, images, [spans[member] for member in members]), labels)
    except KeyError as error:
        raise UserError(f"{images} or {lists} must contain {error}; fetch them again") from None
    except ValueError as error:
        raise UserError(
            f"{lists}: {name} ({error}) must have lines of a file and a class number; fetch {lists.name} again"
        ) from None
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{lists}: {name} (label {labels.max()}) must have labels from 0 to {classes - 1}; fetch {lists.name} again"
        )
    return split
