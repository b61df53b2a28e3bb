"""A CSV of labels: classes, attributes of every kind and splits, and a bad one refused in one line."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
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
    assert result.unreadable.reasons == {"gone.png": "No such file or directory"}
    assert read_split(tmp_path / "prepared", "val").labels.column("age").tolist() == [1.5]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("file,label\n", r"0 rows\) must have rows"),
        ("file,age\na.png,\n", "row 2 must have a value of 'age'"),
        ("file,age\na.png,1\na.png,2\n", r"row 3 \('a.png'\) must not repeat an earlier row"),
        ("file,age\n../a.png,1\n", "must be a file inside data.path"),
        ("file,age\n/etc/a.png,1\n", "must be a file inside data.path"),
        ("file,age\na\0.png,1\n", "must be a file inside data.path"),
        ("file,split\na.png,training\n", r"\('training'\) must be one of train, val, test"),
        ("file,split\na.png,test\n", "must assign some images to train"),
        ("file,label\na.png,1.5\n", r"\(1.5\) must hold integers or texts"),
        ("file,age\na.png,inf\nb.png,2\n", r"column 'age' \(inf\) must be finite"),
        ("file,age\na.png,2\nb.png,-1e39\n", r"\(-1e\+39\) must be finite in float32"),
        ('file,age\n"a.png,1\n', "must be a readable CSV"),
        (
            "file,title\n" + "".join(f"{n}.png,text {n}\n" for n in range(1001)),
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


def _kinds(source) -> dict[str, str]:
    return {attribute.name: attribute.kind for attribute in source.card.attributes}


def _read(tmp_path: Path, text: str, names=("a.png", "b.png", "c.png", "d.png"), **settings):
    folder = fill_folder(tmp_path / "x", list(names))
    return read_source(options_for("image_folder", tmp_path, path=folder, labels=_csv(tmp_path, text), **settings))


def _refused(tmp_path: Path, text: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        _read(tmp_path, text, **settings)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_text_near_the_end_of_a_long_table_of_numbers_makes_one_class_more(tmp_path):
    """pandas decides types in blocks of some 250,000 cells; then 0 and "0" would be two classes."""
    folder = fill_folder(tmp_path / "x", ["a.png"])
    numbers = ",".join(["0.5"] * 40)
    rows = [f"{row}.png,{row % 3},{numbers}" for row in range(17_000)] + [f"a.png,unknown,{numbers}"]
    header = "file,label," + ",".join(f"n{number}" for number in range(40))
    path = _csv(tmp_path, "\n".join([header, *rows]))
    source = read_source(options_for("image_folder", tmp_path, path=folder, labels=path))
    assert source.card.classes == ("0", "1", "2", "unknown")


def test_padded_numbers_are_texts_as_files_and_as_labels(tmp_path):
    source = _read(tmp_path, "file,label,code\n00007,007,01\n7,7,10\n8,8,2\n", ("00007", "7", "8"))
    assert source.card.classes == ("007", "7", "8")
    assert source.card.attributes[0].classes == ("01", "10", "2")
    assert [source.splits["train"].images.name(row) for row in range(3)] == ["00007", "7", "8"]


@pytest.mark.parametrize(
    ("cells", "kind", "found", "values"),
    [
        ("1 2 3 4", None, "continuous", [1, 2, 3, 4]),
        ("1 2 3 4", "categorical", "categorical", [0, 1, 2, 3]),
        ("0 1 1 0", "continuous", "continuous", [0, 1, 1, 0]),
        ("yes no no yes", "binary", "binary", [1, 0, 0, 1]),
        ("yes no no yes", None, "categorical", [1, 0, 0, 1]),
        ("-1 1 1 -1", "binary", "binary", [0, 1, 1, 0]),
        ("01 02 03 12", "continuous", "continuous", [1, 2, 3, 12]),
        ("TRUE False true false", None, "binary", [1, 0, 1, 0]),
    ],
)
def test_the_kind_of_a_column_is_decided_by_rule_or_as_set_and_reported(tmp_path, cells, kind, found, values):
    rows = zip("abcd", cells.split(), strict=True)
    text = "file,age\n" + "".join(f"{name}.png,{cell}\n" for name, cell in rows)
    source = _read(tmp_path, text, attributes={"age": kind} if kind else {})
    assert _kinds(source) == {"age": found}
    assert source.splits["train"].attributes[:, 0].tolist() == values
    (report,) = source.columns
    assert (report.name, report.kind, report.decided_by) == ("age", found, "data.attributes" if kind else "rule")


@pytest.mark.parametrize("cell", ["", "NA", "nan", " - ", "unknown", "None"])
def test_a_missing_number_is_refused_or_its_image_left_out_and_counted(tmp_path, caplog, cell):
    text = f"file,age\na.png,31\nb.png,{cell}\nc.png,40\nd.png,7\n"
    line = _refused(tmp_path, text)
    assert "row 3" in line
    assert "must have a value of 'age'" in line
    assert "data.missing" in line
    source = _read(tmp_path, text, missing="drop")
    assert source.splits["train"].attributes[:, 0].tolist() == [31, 40, 7]
    assert (source.without_value, source.columns[0].missing) == (1, 1)
    assert "1 of 4 images lack a value and are left out (age 1)" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,age\na.png,1\nb.png,old\nc.png,3\n", "row 3: column 'age' ('old') must be a number as in 2 of the 3"),
        ("file;age\na.png;3,5\nb.png;4\n", "row 2: column 'age' ('3,5') must be a number with a decimal point"),
        ("file,Label\na.png,x\nb.png,y\n", "'Label' must be called 'label' or be an attribute; did you mean 'label'?"),
        ("file,class\na.png,x\nb.png,y\n", "did you mean 'label'?"),
        ("file,labels\na.png,x\nb.png,y\n", "did you mean 'label'?"),
        ("file,Split\na.png,train\nb.png,test\n", "did you mean 'split'?"),
        ("label,filename\nx,a.png\ny,b.png\n", "did you mean 'file' by 'filename'? rename that column"),
        ("a.png,x\nb.png,y\n", "row 1 (a.png, x) must be a header, not an image; add a first line such as file,label"),
        ("file,age,age\na.png,1,2\n", "column 'age' must be in the header once"),
        ("file,age,\na.png,1,2\n", "column 3 (no name) must have a name in the header"),
        ("file,label\na.png,x,1\n", "must be a readable CSV"),
        (
            "file,label\na.png,x\nb.png,y,1\n",
            "line 3 has 3 cells and the header, file,label, 2) must be a readable CSV",
        ),
        ("id,label\n0,x\n1,y\n", "row 2: column 'id' ('0') must be a file in data.path"),
        ("file,label\n./a.png,x\na.png,y\n", "row 3 ('a.png') must not repeat an earlier row, 2"),
        ("file,label\na,x\nb,y\n", "row 2: column 'file' ('a') must be a file in data.path"),
        ("file,label\na,x\nb,y\n", "2 of 2 rows name none; the nearest file is 'a.png'; correct the names (add .png)"),
        ("id,label,path\n7,x,a.png\n9,y,b.png\n", "rename column 'path' to 'file': did you mean that one?"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(tmp_path, text, expected):
    line = _refused(tmp_path, text)
    assert "data.labels" in line
    assert expected in line


@pytest.mark.parametrize(
    "text",
    [
        "file, label\na.png , cat \nb.png,cat\nc.png,dog\n",
        "file;label\na.png;cat\nb.png;cat\nc.png;dog\n",
        "file\tlabel\na.png\tcat\nb.png\tcat\nc.png\tdog\n",
        "file|label\na.png|cat\nb.png|cat\nc.png|dog\n",
        ",file,label\n0,a.png,cat\n1,b.png,cat\n2,c.png,dog\n",
        "id,image,label\n1,a.png,cat\n2,b.png,cat\n3,c.png,dog\n",
        "no.,file,label\n1,a.png,cat\n2,b.png,cat\n3,c.png,dog\n",
        "row,photo,label\n1,a.png,cat\n2,b.png,cat\n3,c.png,dog\n",
        "label,file\ncat,a.png\ncat,b.png\ndog,c.png\n",
        "file,label,\na.png,cat,\nb.png,cat,\nc.png,dog,\n",
        "file,label\n.\\a.png,cat\n./b.png,cat\nc.png,dog\n",
        "\ufefffile,label\r\na.png,cat\r\nb.png,cat\r\nc.png,dog\r\n",
    ],
)
def test_what_is_plainly_meant_is_read_so(tmp_path, text):
    source = _read(tmp_path, text)
    assert source.card.classes == ("cat", "dog")
    assert source.card.attributes == ()
    assert source.splits["train"].labels.tolist() == [0, 0, 1]
    assert [source.splits["train"].images.name(row) for row in range(3)] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(("on_disk", "in_csv"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms_do_not_matter(tmp_path, on_disk, in_csv):
    name = unicodedata.normalize(on_disk, "ä/ü.png")
    text = f"file,label\n{unicodedata.normalize(in_csv, name)},cat\n"
    assert _read(tmp_path, text, [name]).splits["train"].images.name(0) == name


def test_a_label_may_have_any_number_of_classes(tmp_path):
    names = [f"{number}.png" for number in range(1001)]
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / "x" / name).touch()
    text = "file,label\n" + "".join(f"{name},c{number:04}\n" for number, name in enumerate(names))
    assert len(_read(tmp_path, text, ()).card.classes) == 1001


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"agee": "continuous"}, "data.attributes (agee: continuous) must name a column of data.labels"),
        ({"agee": "continuous"}, "did you mean 'age'?"),
        ({"label": "binary"}, "data.attributes.label (binary) must be categorical"),
        ({"age": "binary"}, "row 2: column 'age' (3.0) must be 0 or 1, -1 or 1, true or false, or yes or no"),
        ({"hair": "continuous"}, "('red') must be a number, since data.attributes.hair is continuous"),
    ],
)
def test_a_kind_that_does_not_fit_the_column_is_refused(tmp_path, attributes, expected):
    text = "file,label,age,hair\na.png,cat,3,red\nb.png,dog,4,black\n"
    assert expected in _refused(tmp_path, text, attributes=attributes)


def test_kinds_without_a_csv_are_refused(tmp_path):
    for name in ("image_folder", "digits"):
        folder = fill_folder(tmp_path / "x", ["a.png"])
        options = options_for(name, tmp_path, path=folder, attributes={"age": "binary"})
        with pytest.raises(UserError, match=r"data\.attributes"):
            read_source(options)


def test_a_missing_value_of_an_attribute_can_be_kept_as_nan_but_not_a_missing_class(tmp_path, caplog):
    text = "file,label,age,hair,smiling\na.png,x,31,red,1\nb.png,y,NA,,\nc.png,x,40,black,0\nd.png,y,7,red,\n"
    source = _read(tmp_path, text, missing="ignore")
    assert _kinds(source) == {"age": "continuous", "hair": "categorical", "smiling": "binary"}
    assert source.card.attributes[1].classes == ("black", "red")
    nan = float("nan")
    expected = [[31, 1, 1], [nan, nan, nan], [40, 0, 0], [7, 1, nan]]
    np.testing.assert_array_equal(source.splits["train"].attributes, expected)
    assert source.without_value == 0
    assert {column.name: column.missing for column in source.columns} == {"label": 0, "age": 1, "hair": 1, "smiling": 2}
    assert "data.missing (ignore): 2 of 4 images lack a value and are kept without it (age 1, hair 1," in caplog.text
    line = _refused(tmp_path, text.replace("c.png,x", "c.png,"), missing="ignore")
    assert "row 4 must have a value of 'label'" in line
    assert line.endswith("set data.missing to drop, which leaves such images out")
    line = _refused(tmp_path, "file,label,age\na.png,x,\nb.png,y,\n", missing="ignore")
    assert "every row lacks a value, such as 'age'" in line


def test_an_attribute_without_any_value_in_the_training_images_is_refused(tmp_path):
    source = _read(tmp_path, "file,age,split\na.png,,train\nb.png,3,test\nc.png,,train\n", missing="ignore")
    with pytest.raises(
        UserError, match=r"^data\.missing \(ignore\) must leave a value of 'age' in some training image"
    ):
        prepare(source, tmp_path / "prepared", PREPARE_OPTIONS)
