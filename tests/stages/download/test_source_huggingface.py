"""A folder that ``datasets`` saved gives images, classes and splits, and other folders are refused with the remedy."""

import os

import numpy as np
import pytest

from latentline.core.errors import UserError
from support.source_files import encoded, flat, level, read


def _saved(tmp_path, columns: dict, features: dict | None = None, *, named: bool = False):
    """A directory as `datasets` itself saves it."""
    from datasets import Dataset, DatasetDict, Features

    data = Dataset.from_dict(columns, features=Features(features) if features else None)
    (DatasetDict({"train": data, "validation": data, "test": data}) if named else data).save_to_disk(
        str(tmp_path / "saved")
    )
    return tmp_path / "saved"


@pytest.fixture(scope="module")
def pictures() -> list[dict]:
    return [{"bytes": encoded(flat(level)), "path": None} for level in (10, 20, 30)]


def test_a_hugging_face_directory_gives_images_classes_and_splits(tmp_path, pictures):
    from datasets import ClassLabel, Image

    columns = {"image": pictures, "label": [1, 0, 1]}
    path = _saved(tmp_path, columns, {"image": Image(), "label": ClassLabel(names=["cat", "dog"])}, named=True)
    source = read("huggingface", tmp_path, path=path)
    assert source.card.classes == ("cat", "dog")
    assert set(source.splits) == {"train", "val", "test"}
    assert source.splits["val"].labels.tolist() == [1, 0, 1]
    assert [level(source, "test", row) for row in range(3)] == [10, 20, 30]


def test_a_hugging_face_set_without_labels_or_with_texts_is_read(tmp_path, pictures):
    from datasets import Image, Value

    assert read("huggingface", tmp_path, path=_saved(tmp_path, {"img": pictures}, {"img": Image()})).card.classes == ()
    (tmp_path / "b").mkdir()
    path = _saved(
        tmp_path / "b", {"img": pictures, "labels": ["x", "y", "x"]}, {"img": Image(), "labels": Value("string")}
    )
    source = read("huggingface", tmp_path, path=path)
    assert source.splits["train"].labels.tolist() == [0, 1, 0]


def test_other_hugging_face_folders_are_refused_with_the_remedy(tmp_path, pictures):
    from datasets import ClassLabel, Image, List, Value

    with pytest.raises(UserError, match="save_to_disk"):
        read("huggingface", tmp_path, path=tmp_path)
    with pytest.raises(UserError, match=r"columns text\) must have a column of images"):
        read("huggingface", tmp_path, path=_saved(tmp_path, {"text": ["a"]}))
    (tmp_path / "b").mkdir()
    path = _saved(
        tmp_path / "b",
        {"image": pictures, "label": [1, -1, 0]},
        {"image": Image(), "label": ClassLabel(names=["cat", "dog"])},
    )
    with pytest.raises(UserError, match="must hold one of 2 classes in every row; remove the other rows"):
        read("huggingface", tmp_path, path=path)
    kinds = [([1, None, 0], Value("int64")), ([[1, 0], [0], []], List(Value("int64")))]
    for number, (labels, kind) in enumerate(kinds):
        (tmp_path / str(number)).mkdir()
        path = _saved(tmp_path / str(number), {"image": pictures, "label": labels}, {"image": Image(), "label": kind})
        with pytest.raises(UserError, match="must hold an integer or text in every row"):
            read("huggingface", tmp_path, path=path)


def test_columns_that_data_attributes_names_are_read_and_rows_without_a_value_left_out(tmp_path, pictures, caplog):
    from datasets import ClassLabel, Image, Value

    caplog.set_level("INFO")
    columns = {"image": pictures, "label": [1, -1, 0], "age": [3.5, 4.0, 5.0], "hair": ["red", "black", " red"]}
    features = {"age": Value("float32"), "hair": Value("string"), "label": ClassLabel(names=["cat", "dog"])}
    path = _saved(tmp_path, columns, {"image": Image(), **features}, named=True)
    source = read("huggingface", tmp_path, path=path, attributes={"age": "continuous"}, missing="drop")
    assert [attribute.name for attribute in source.card.attributes] == ["age"]
    for split in source.splits.values():
        assert split.labels.tolist() == [1, 0]
        assert split.attributes.tolist() == [[3.5], [5.0]]
    assert [level(source, "val", row) for row in range(2)] == [10, 30]
    assert source.without_value == 3
    assert "columns that are not used: hair" in caplog.text
    features["label"] = Value("int64")
    columns |= {"label": [1, 1, 0], "age": [3.5, None, 5.0]}
    (tmp_path / "gaps").mkdir()
    path = _saved(tmp_path / "gaps", columns, {"image": Image(), **features}, named=True)
    source = read("huggingface", tmp_path, path=path, attributes={"age": "continuous"}, missing="ignore")
    assert all(split.labels.tolist() == [1, 1, 0] for split in source.splits.values())
    np.testing.assert_array_equal(source.splits["val"].attributes[:, 0], [3.5, np.nan, 5.0])
    with pytest.raises(UserError, match=r"data.attributes \(ages: binary\) .*did you mean 'age'"):
        read("huggingface", tmp_path, path=path, attributes={"ages": "binary"}, missing="drop")


def test_a_hugging_face_column_that_nearly_is_the_label_is_refused(tmp_path, pictures):
    from datasets import Image, Value

    path = _saved(tmp_path, {"image": pictures, "Label": [1, 0, 1]}, {"image": Image(), "Label": Value("int64")})
    with pytest.raises(UserError, match="did you mean 'label'"):
        read("huggingface", tmp_path, path=path)


def test_a_linked_split_or_a_pipe_in_the_folder_is_refused(tmp_path, pictures):
    from datasets import Image

    path = _saved(tmp_path, {"image": pictures}, {"image": Image()}, named=True)
    os.mkfifo(path / "pipe")
    with pytest.raises(UserError, match=r"^data\.path \(.*pipe, a pipe, socket or device\) must be a regular file"):
        read("huggingface", tmp_path, path=path)
    (path / "pipe").unlink()
    (path / "test").rename(tmp_path / "test")
    (path / "test").symlink_to(tmp_path / "test")
    with pytest.raises(UserError, match=r"^data\.path \(.*test, a link to a folder\) must be a folder"):
        read("huggingface", tmp_path, path=path)
