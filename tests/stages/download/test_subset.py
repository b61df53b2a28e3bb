"""Some classes of a data set: the same as a data set that never had others."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.data.store import read_card, read_split
from stages.download.images import ArrayImages
from stages.download.prepare import Options, prepare
from stages.download.source import Card, Source, SourceSplit
from stages.download.subset import of_classes

random = np.random.default_rng(0)
ARRAY = random.integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
LABELS = random.integers(0, 3, 60)
SIZES = random.random((60, 1), dtype=np.float32)
CARD = Card("shapes", ("ring", "disc", "bar"), "none", "here", "nobody", (Attribute("size", "continuous"),))
OPTIONS = Options(None, None, {"val": 0.1, "test": 0.2}, None, 0.0, False, 0, 0)


def _source(rows: np.ndarray, classes: tuple[str, ...], labels: np.ndarray) -> Source:
    return Source(replace(CARD, classes=classes), {"train": SourceSplit(ArrayImages(ARRAY[rows]), labels, SIZES[rows])})


WHOLE = _source(np.arange(60), CARD.classes, LABELS)


@pytest.mark.parametrize("names", [["ring", "bar"], ["bar", "ring"], ["bar", "bar", "ring"]])
def test_it_is_prepared_as_if_there_were_no_others(tmp_path, names):
    rows = np.flatnonzero(LABELS != 1)
    expected = _source(rows, ("ring", "bar"), LABELS[rows] // 2)
    prepare(of_classes(WHOLE, names), tmp_path / "chosen", OPTIONS)
    prepare(expected, tmp_path / "expected", OPTIONS)
    assert asdict(read_card(tmp_path / "chosen")) == asdict(
        read_card(tmp_path / "expected")
    )  # with the digest of every shard
    assert len(read_split(tmp_path / "chosen", "train")) + len(read_split(tmp_path / "chosen", "test")) < len(rows)


def test_images_keep_their_names():
    chosen = of_classes(WHOLE, ["bar"]).splits["train"].images
    assert [chosen.name(row) for row in range(len(chosen))] == [f"image {row}" for row in np.flatnonzero(LABELS == 2)]


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["ring", "Disc"], CARD.classes, r"\(Disc\) must be a class of shapes \(ring, disc, bar\); correct"),
        (["ring"], (), r"\(\['ring'\]\) must be null"),
    ],
)
def test_other_names_are_refused(names, classes, message):
    with pytest.raises(UserError, match=rf"data\.classes {message}"):
        of_classes(_source(np.arange(60), classes, LABELS), names)
