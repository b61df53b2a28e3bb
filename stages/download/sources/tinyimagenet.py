"""Tiny ImageNet: 100,000 + 10,000 colour 64x64 images in 200 classes.

``tiny-imagenet-200.zip`` (http://cs231n.stanford.edu/tiny-imagenet-200.zip) holds:

wnids.txt                                       the classes
words.txt                                       their names: wnid, tab, synonyms
train/n01443537/images/n01443537_0.JPEG ...     training images
val/images/val_0.JPEG ...                       validation images
val/val_annotations.txt                         file, wnid and a box, tab-separated

Labels of the publisher's test images are not public, so the publisher's val is our test.
"""

import re

import numpy as np

from latentline.core.errors import UserError
from stages.download.archives import ZipImages, open_zip, zip_member
from stages.download.fetch import md5
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_FOLDER = "tiny-imagenet-200"
_LARGEST_TABLE = 64 << 20  # bytes


def read_tinyimagenet(options: SourceOptions) -> Source:
    """Return train, and val as test."""
    archive = md5("tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", _URL)
    path = publisher_files(options, "Tiny ImageNet", [archive], _URL)[archive.name]
    with open_zip(path) as opened:
        tables = {
            name: zip_member(opened, f"{_FOLDER}/{name}", _LARGEST_TABLE).decode("utf-8")
            for name in ("wnids.txt", "words.txt", "val/val_annotations.txt")
        }
        members = opened.namelist()
    wnids = {wnid: index for index, wnid in enumerate(tables["wnids.txt"].split())}
    words = dict(line.split("\t", 1) for line in tables["words.txt"].splitlines() if "\t" in line)
    train = [
        (name, found[1])
        for name in members
        if (found := re.fullmatch(rf"{_FOLDER}/train/(n\d+)/images/[^/]+\.JPEG", name))
    ]
    annotated = [line.split("\t")[:2] for line in tables["val/val_annotations.txt"].splitlines()]
    test = [(f"{_FOLDER}/val/images/{file}", wnid) for file, wnid in annotated]
    splits = {}
    for split, rows in {"train": train, "test": test}.items():
        if unknown := next((wnid for _, wnid in rows if wnid not in wnids), None):
            raise UserError(f"{path} (class {unknown}) must only have classes of wnids.txt; fetch it again")
        splits[split] = SourceSplit(
            ZipImages([name for name, _ in rows], path), np.array([wnids[wnid] for _, wnid in rows], np.int64)
        )
    card = Card(
        name="tinyimagenet",
        classes=tuple(f"{words[wnid].split(',')[0]} ({wnid})" if wnid in words else wnid for wnid in wnids),
        licence="as ImageNet: for non-commercial research only",
        source=_URL,
        citation="Y. Le, X. Yang: Tiny ImageNet Visual Recognition Challenge. CS 231N, Stanford University, 2015",
    )
    return Source(card, splits)
