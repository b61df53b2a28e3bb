"""CelebA: 202,599 aligned faces, 178x218, with 40 binary attributes each.

Format (README of https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html):

list_attr_celeba.txt      a line with the number of images, a line with the attribute names, then per image its file
                          name and 40 numbers, 1 or -1
list_eval_partition.txt   per image its file name and 0 (train), 1 (val) or 2 (test)
img_align_celeba.zip      the images, ``img_align_celeba/000001.jpg`` ...
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from stages.download.archives import ZipImages, lacks, open_zip
from stages.download.fetch import md5
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_IMAGES, _ATTRIBUTES, _PARTITION = "img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt"
_PARTS = {"train": 0, "val": 1, "test": 2}


def read_celeba(options: SourceOptions) -> Source:
    """Return all faces in the publisher's splits.

    The files lie behind a page that no program can pass, so they must be in ``data.root``.
    """
    from torchvision.datasets import CelebA  # here, since its import takes seconds

    digests = {name: digest for _, digest, name in CelebA.file_list}
    files = [md5(name, digests[name]) for name in (_IMAGES, _ATTRIBUTES, _PARTITION)]
    paths = publisher_files(options, "CelebA", files, _PAGE)
    names, files_of_rows, values = _attributes(paths[_ATTRIBUTES])
    parts = _partition(paths[_PARTITION], files_of_rows)
    with open_zip(paths[_IMAGES]) as archive:
        present = set(archive.namelist())
    members = [f"img_align_celeba/{file}" for file in files_of_rows]
    if missing := next((member for member in members if member not in present), None):
        raise lacks(paths[_IMAGES], missing)
    card = Card(
        name="celeba",
        classes=(),
        licence="for non-commercial research only",
        source=_PAGE,
        citation="Z. Liu, P. Luo, X. Wang, X. Tang: Deep Learning Face Attributes in the Wild. ICCV 2015",
        attributes=tuple(Attribute(name, "binary") for name in names),
    )
    splits = {}
    for split, part in _PARTS.items():
        rows = np.flatnonzero(parts == part)
        splits[split] = SourceSplit(ZipImages([members[row] for row in rows], paths[_IMAGES]), attributes=values[rows])
    return Source(card, splits)


def _attributes(path: Path) -> tuple[list[str], list[str], NDArray[np.float32]]:
    """Return attribute names (A), file names (N) and values (N, A), 1 = yes."""
    lines = _lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    rows = [line.split() for line in lines[2:]]
    if not names or lines[0].strip() != str(len(rows)) or any(len(row) != len(names) + 1 for row in rows):
        raise UserError(f"{path} must be CelebA's list: the count, attribute names, a line per image; fetch it again")
    return names, [row[0] for row in rows], np.array([[value == "1" for value in row[1:]] for row in rows], np.float32)


def _partition(path: Path, files: list[str]) -> NDArray[np.int64]:
    rows = [line.split() for line in _lines(path)]
    if [row[0] for row in rows] != files or any(len(row) != 2 or row[1] not in ("0", "1", "2") for row in rows):
        raise UserError(f"{path} must list the files of {_ATTRIBUTES} in order, each with 0, 1 or 2; fetch it again")
    return np.array([int(row[1]) for row in rows], np.int64)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii", errors="replace").strip().splitlines()
