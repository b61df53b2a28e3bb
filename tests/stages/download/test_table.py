"""A CSV of labels: classes, attributes of every kind and splits, and a bad one refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from latentline.core.errors import UserError
from latentline.data.store import read_split
from stages.download.prepare import prepare
from stages.download.registry import read_source
from support.source_files import PREPARE_OPTIONS, fill_folder, options_for, read


def _csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path / "labels.csv"


def _table(tmp_path: Path, text: str):
    folder = fill_folder(tmp_path / "x", ["a.png", "b.png", "sub/c.png", "d.png"])
    return read_source(options_for("image_folder", tmp_path, path=folder, labels=_csv(tmp_path, text)))


def test_a_csv_gives_classes_attributes_of_every_kind_and_splits(tmp_path):
    source = _table(
        tmp_path,
        "file,label,smiling,glasses,old,age,hair,split\n"
        "a.png,cat,1,True,-1,3.5,None,train\n"
        "b.png,dog,0,False,1,70,brown,test\n"
        "sub/c.png,cat,1,True,1,-2,brown,train\n",
    )
    assert source.card.classes == ("cat", "dog")
    kinds = {attribute.name: (attribute.kind, attribute.classes) for attribute in source.card.attributes}
    assert kinds == {
        "smiling": ("binary", ()),
        "glasses": ("binary", ()),
        "old": ("binary", ()),
        "age": ("continuous", ()),
        "hair": ("categorical", ("None", "brown")),
    }
    train, test = source.splits["train"], source.splits["test"]
    assert train.attributes.tolist() == [[1, 1, 0, 3.5, 0], [1, 1, 1, -2, 1]]
    assert test.attributes.tolist() == [[0, 0, 1, 70, 1]]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0], [1])
    assert [train.images.name(row) for row in range(2)] == ["a.png", "sub/c.png"]


def test_a_csv_of_file_names_alone_chooses_images_and_labels_nothing(tmp_path):
    source = _table(tmp_path, "file\na.png\nd.png\n")
    assert len(source.splits["train"].images) == 2
    assert (source.card.classes, source.card.attributes) == ((), ())
    assert source.splits["train"].attributes is None


def test_numbers_as_classes_are_sorted_as_numbers(tmp_path):
    source = _table(tmp_path, "file,label\na.png,10\nb.png,9\nsub/c.png,9\n")
    assert source.card.classes == ("9", "10")
    assert source.splits["train"].labels.tolist() == [1, 0, 0]


def test_a_row_without_a_file_counts_as_unreadable(tmp_path):
    source = _table(
        tmp_path,
        "file,age\n" + "".join(f"{name},1.5\n" for name in ("a.png", "b.png", "sub/c.png", "d.png", "gone.png")),
    )
    result = prepare(source, tmp_path / "prepared", replace(PREPARE_OPTIONS, max_unreadable=0.2))
    assert result.unreadable == {"gone.png": "No such file or directory"}
    assert read_split(tmp_path / "prepared", "val").labels.column("age").tolist() == [1.5]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("file,label\n", r"0 rows\) must have rows"),
        ("file,age\na.png,\n", "row 2 must have a value of 'age'"),
        ("file,age\na.png,1\na.png,2\n", r"row 3 \('a.png'\) must not repeat an earlier row"),
        ("file,age\n../a.png,1\n", "must be a file inside data.path"),
        ("file,age\n/etc/a.png,1\n", "must be a file inside data.path"),
        ("file,split\na.png,training\n", r"\('training'\) must be one of train, val, test"),
        ("file,split\na.png,test\n", "must assign some images to train"),
        ("file,label\na.png,1.5\n", r"\(1.5\) must hold integers or texts"),
        ("file,age\na.png,inf\nb.png,2\n", r"column 'age' \(inf\) must be finite"),
        ("file,age\na.png,2\nb.png,-1e39\n", r"\(-1e\+39\) must be finite in float32"),
        ('file,age\n"a.png,1\n', "must be a readable CSV"),
        (
            "file,caption\n" + "".join(f"{n}.png,text {n}\n" for n in range(1001)),
            r"\(1001 different values\) must have at most 1000",
        ),
    ],
)
def test_a_bad_csv_is_refused_in_one_line_that_names_the_setting(tmp_path, text, hint):
    with pytest.raises(UserError, match=hint) as caught:
        _table(tmp_path, text)
    assert "data.labels" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(UserError, match="must be a readable CSV"):
        read("image_folder", tmp_path, path=fill_folder(tmp_path / "x", ["1.png"]), labels=tmp_path / "labels.csv")
