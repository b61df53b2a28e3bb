"""Labels that are valid but rarely meant are named in the log."""

from dataclasses import replace

import numpy as np

from latentline.core.attributes import Attribute
from stages.download.images import ArrayImages
from stages.download.label_warnings import warn_of_labels
from stages.download.prepare import prepare
from stages.download.source import Card, Source, SourceSplit
from support.source_files import PREPARE_OPTIONS

_IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)


def _warnings(tmp_path, caplog, classes, labels, attributes=(), test_labels=None) -> list[str]:
    values = np.zeros((40, len(attributes)), np.float32) if attributes else None
    splits = {"train": SourceSplit(ArrayImages(_IMAGES), np.array(labels), values)}
    if test_labels is not None:
        splits["test"] = SourceSplit(ArrayImages(_IMAGES[: len(test_labels)]), np.array(test_labels))
    source = Source(Card("array", tuple(classes), "", "", "", tuple(attributes)), splits)
    result = prepare(source, tmp_path / "prepared", replace(PREPARE_OPTIONS, shares={"val": 0.1, "test": 0.1}))
    caplog.clear()
    warn_of_labels(source, result.stats)
    return [record.getMessage() for record in caplog.records]


def test_usual_labels_give_no_warning(tmp_path, caplog):
    assert not _warnings(tmp_path, caplog, ["cat", "dog"], np.arange(40) % 2)


def test_names_that_differ_in_case_blanks_or_unicode_form_are_named(tmp_path, caplog):
    classes = ["Cat", "cat", "caf\u00e9", "cafe\u0301 ", "owl"]
    attribute = Attribute("sex", "categorical", ("F", "M", "m"))
    class_line, attribute_line = _warnings(tmp_path, caplog, classes, np.arange(40) % 5, [attribute])
    assert class_line == (
        "label: names that differ only in case, blanks or Unicode form are different classes: "
        "'Cat' and 'cat', 'caf\u00e9' and 'cafe\u0301 '"
    )
    assert attribute_line.startswith("sex: names that differ only") and attribute_line.endswith(": 'M' and 'm'")


def test_almost_as_many_classes_as_images_and_classes_without_training_images_are_named(tmp_path, caplog):
    weights = Attribute("weight", "categorical", tuple(f"{number} kg" for number in range(30)))
    many, untrained = _warnings(tmp_path, caplog, ["a", "b", "c"], np.arange(40) % 2, [weights], [0, 1, 2, 2])
    assert many == (
        "weight: 30 classes for 44 images, so hardly two images share one, such as '0 kg'; join classes, or write "
        "numbers without units"
    )
    assert untrained == (
        "label: 1 classes have images in val or test and none in train, such as c; add images, or lower data.splits"
    )
