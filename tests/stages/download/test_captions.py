"""Captions of the user's images: the ways to give them, missing ones, encodings, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from latentline.core.errors import UserError
from latentline.data.captions import read_captions
from latentline.data.store import read_card
from stages.download.prepare import prepare
from stages.download.source import Source
from stages.download.sources.caption_files import find_caption_files
from stages.download.sources.folder_files import list_folder
from stages.download.subset import of_classes
from support.source_files import PREPARE_OPTIONS, fill_folder, level, read

NAMES = ["a.png", "b.png", "sub.folder/c.png"]
LABELLED = ["cat/1.png", "cat/2.png", "dog/3.png"]


def _folder(tmp_path: Path, texts: dict[str, str | bytes], names: list[str] = LABELLED) -> Path:
    folder = fill_folder(tmp_path / "pictures", names)
    for name, text in texts.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def _captions(source: Source) -> dict[str, str]:
    """Return the captions by the names of the images."""
    return {
        split.images.name(row): caption
        for split in source.splits.values()
        for row, caption in enumerate(split.captions)
    }


def test_a_txt_beside_each_image_is_its_caption(tmp_path):
    texts = {
        "cat/1.txt": "\ufeffone \r\n\r\nline\r\n",
        "cat/2.TXT": "  ",
        "dog/3.txt": "猫 \U0001f408",
        "README.txt": "x",
    }
    source = read("image_folder", tmp_path, path=_folder(tmp_path, texts))
    assert _captions(source) == {"cat/1.png": "one line", "cat/2.png": "", "dog/3.png": "猫 \U0001f408"}
    assert source.captions.found_in == ".txt beside the images"
    assert source.captions.without_image == ["README.txt"]
    assert source.left_out == {"README.txt": ".txt"}
    assert _captions(of_classes(source, ["dog"])) == {"dog/3.png": "猫 \U0001f408"}
    ignored = read("image_folder", tmp_path, path=tmp_path / "pictures", captions="none")
    assert (ignored.captions, ignored.splits["train"].captions, len(ignored.left_out)) == (None, None, 4)


def test_texts_that_are_called_like_no_image_are_no_captions(tmp_path):
    source = read("image_folder", tmp_path, path=_folder(tmp_path, {"cat/notes.txt": "x", "metadata.jsonl": "{}"}))
    assert (source.captions, source.splits["train"].captions) == (None, None)
    assert source.left_out == {"cat/notes.txt": ".txt", "metadata.jsonl": ".jsonl"}


ROWS = [
    {"file_name": "cat/1.png", "text": "one", "width": 4},
    {"file_name": "./dog\\3.png", "text": None},
    {"file_name": "x.png", "text": "lost"},
]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_as_imagefolder_has_it_gives_captions(tmp_path, name, caplog):
    caplog.set_level("INFO")
    lines = [json.dumps(row) for row in ROWS]
    if name.endswith("csv"):
        lines = ["file_name,text,width", "cat/1.png,one,4", "dog/3.png,,", "x.png,lost,"]
    source = read("image_folder", tmp_path, path=_folder(tmp_path, {name: "\r\n".join(lines)}))
    assert _captions(source) == {"cat/1.png": "one", "cat/2.png": "", "dog/3.png": ""}
    assert (source.captions.found_in, source.captions.without_image) == (name, ["x.png"])
    assert source.left_out == {}
    assert "columns of metadata" in caplog.text
    assert "not used: width" in caplog.text


def test_each_folder_may_have_its_own_metadata(tmp_path):
    rows = {f"{name}/metadata.jsonl": f'{{"file_name": "1.png", "caption": "{name}"}}\n' for name in ("train", "test")}
    source = read("image_folder", tmp_path, path=_folder(tmp_path, rows, ["train/1.png", "test/1.png"]))
    assert _captions(source) == {"train/1.png": "train", "test/1.png": "test"}


@pytest.mark.parametrize("name", ["caption", "text"])
def test_a_column_of_the_csv_is_the_caption_and_no_attribute(tmp_path, name):
    folder = _folder(tmp_path, {})
    rows = ['cat/1.png,"a, b",3,x', "cat/2.png,,4,x", "dog/3.png,7,5,x"]
    (folder / "labels.csv").write_text("\n".join([f"file,{name},age,label", *rows]), encoding="utf-16")
    options = {"path": folder, "labels": folder / "labels.csv"}
    source = read("image_folder", tmp_path, **options)
    assert _captions(source) == {"cat/1.png": "a, b", "cat/2.png": "", "dog/3.png": "7"}
    assert source.captions.found_in == f"column {name} of data.labels"
    assert [column.name for column in source.columns] == ["label", "age"]
    for others in ({"captions": "none", "missing": "ignore"}, {"attributes": {name: "categorical"}, "missing": "drop"}):
        source = read("image_folder", tmp_path, **options, **others)
        assert source.captions is None
        assert [column.name for column in source.columns] == ["label", name, "age"]


def test_captions_follow_the_rows_that_the_csv_keeps(tmp_path):
    folder = _folder(tmp_path, {"dog/3.txt": "three", "cat/1.txt": "one"})
    (folder / "labels.csv").write_text("file,age\ndog/3.png,1\ncat/2.png,2\n")
    source = read("image_folder", tmp_path, path=folder, labels=folder / "labels.csv")
    assert _captions(source) == {"dog/3.png": "three", "cat/2.png": ""}
    assert source.left_out == {"cat/1.png": "images without a row", "cat/1.txt": ".txt"}
    (folder / "dog" / "3.txt").unlink()
    (folder / "cat" / "1.txt").unlink()
    (folder / "labels.csv").write_text("file,age,text\ndog/3.png,,gone\ncat/2.png,2,two\n")
    source = read("image_folder", tmp_path, path=folder, labels=folder / "labels.csv", missing="drop")
    assert _captions(source) == {"cat/2.png": "two"}


TXT = {"cat/1.txt": "one"}
META = {"metadata.jsonl": '{"file_name": "cat/1.png", "text": "one"}'}


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (TXT | META, r"captions in \.txt beside the images and in metadata\.jsonl\) must have captions in one way; "),
        (META | {"metadata.csv": "file_name,caption\ncat/1.png,one\n"}, r"metadata\.jsonl and in metadata\.csv\) "),
        ({"cat/1.txt": "größe".encode("cp1252")}, r"cat/1\.txt: .*decode byte .*must be a text in UTF-8; save it"),
        ({"cat/1.txt": "one".encode("utf-16-le")}, r"cat/1\.txt with null characters\) must be a text in UTF-8; "),
        ({"cat/1.txt": "x" * (1 << 20) + "x"}, r"cat/1\.txt\) must have at most 1048576 bytes; "),
        ({"metadata.jsonl": '{"text": "one"}'}, r"metadata\.jsonl\): row 1 must have a value of 'file_name'; add it"),
        ({"metadata.jsonl": "\n{,}"}, r"metadata\.jsonl: .*\): row 2 must be JSON; correct it, or set data\.captions"),
        ({"metadata.jsonl": "[1]"}, "row 1 must be a JSON object; "),
        ({"metadata.jsonl": '{"file_name": "cat/1.png", "text": ["one"]}'}, "row 1 must have one text as 'text'; "),
        ({"metadata.jsonl": '{"text": "one", "caption": "1"}'}, "must have one column of captions, text or caption; "),
        ({"metadata.csv": "file_name,text\ncat/1.png,1\ncat/1.png,2\n"}, r"row 3 \(cat/1\.png\) must not repeat"),
        ({"metadata.csv": f'file_name,text\ncat/1.png,"{"x" * 200_000}"\n'}, r"field larger.*must be a readable CSV; "),
    ],
)
def test_what_cannot_be_read_as_captions_is_refused_with_the_file_and_the_remedy(tmp_path, texts, reason):
    folder = _folder(tmp_path, texts)
    with pytest.raises(UserError, match=rf"^data\.path \(.*{reason}") as caught:
        find_caption_files(folder, list_folder(folder, tmp_path / "none"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("file,text,caption", "columns 'text' and 'caption' must not both be there, .*; remove or rename one"),
        ("file,Captions,age", "column 'Captions' must be called 'caption' or be an attribute; did you mean 'caption'"),
        ("file,caption,age", r"captions in column caption of data\.labels and in \.txt beside the images\) must"),
    ],
)
def test_columns_that_may_be_captions_are_refused_with_the_remedy(tmp_path, header, reason):
    folder = _folder(tmp_path, TXT)
    (folder / "labels.csv").write_text(f"{header}\ncat/1.png,one,2\n")
    with pytest.raises(UserError, match=reason):
        read("image_folder", tmp_path, path=folder, labels=folder / "labels.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_names_the_encoding_and_no_caption_is_cut(tmp_path, encoding):
    text = "\u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f52c " + "x" * 10_000
    folder = _folder(tmp_path, {"cat/1.txt": f"{text}\0".encode(encoding)})
    assert find_caption_files(folder, list_folder(folder, tmp_path / "none")).captions == {"cat/1.png": text}


def _numbered(tmp_path: Path, without: set[int]) -> Source:
    """Return 40 images whose caption is their level; some have none."""
    texts = {f"{number}.txt": f"level {number}" for number in range(40) if number not in without}
    return read("image_folder", tmp_path, path=_folder(tmp_path, texts, [f"{number}.png" for number in range(40)]))


def test_prepared_captions_belong_to_their_images(tmp_path):
    source = _numbered(tmp_path, {7})
    options = replace(PREPARE_OPTIONS, max_missing_captions=0.1, limit=15)
    result = prepare(source, tmp_path / "prepared", options)
    assert {split["missing"] for split in result.captions.values()} <= {0, 1}
    assert set(read_card(tmp_path / "prepared").captions) == {"train", "val", "test"}
    for name, split in result.stats.items():
        captions = read_captions(tmp_path / "prepared", name)
        assert len(captions) == split.count == result.captions[name]["count"]
        rows = [row for part in split.rows for row in part.tolist()]
        levels = [level(source, "train", row) for row in rows]
        assert captions == ["" if number == 7 else f"level {number}" for number in levels]


def test_too_many_missing_captions_are_refused_before_anything_is_written(tmp_path):
    source = _numbered(tmp_path, set(range(3, 40)))
    expected = (
        r"^data\.max_missing_captions \(0\.1\) must be at least the fraction of images without a caption, \d+ of \d+ "
        r"in train, such as \d+\.png, .*; add captions, raise it, or set data\.captions to none$"
    )
    with pytest.raises(UserError, match=expected):
        prepare(source, tmp_path / "prepared", replace(PREPARE_OPTIONS, max_missing_captions=0.1))
    assert not (tmp_path / "prepared").exists()


def test_a_text_column_of_a_hugging_face_set_gives_captions(tmp_path):
    from datasets import Dataset, Features, Image, List, Value

    def saved(texts: list, kind: object, name: str) -> Path:
        images = [{"bytes": (folder / image).read_bytes(), "path": None} for image in LABELLED]
        features = Features({"image": Image(), "label": Value("int64"), name: kind})
        data = Dataset.from_dict({"image": images, "label": [1, None, 0], name: texts}, features=features)
        data.save_to_disk(str(tmp_path / str(len(list(tmp_path.iterdir())))))
        return tmp_path / str(len(list(tmp_path.iterdir())) - 1)

    folder = _folder(tmp_path, {})
    path = saved(["one ", "two", None], Value("string"), "text")
    source = read("huggingface", tmp_path, path=path, missing="drop")
    assert source.splits["train"].captions == ["one", ""]
    assert source.captions.found_in == "column text of data.path"
    source = read("huggingface", tmp_path, path=path, missing="drop", captions="none")
    assert source.splits["train"].captions is None
    path = saved([["one"], [], ["two"]], List(Value("string")), "caption")
    assert read("huggingface", tmp_path, path=path, missing="drop").captions is None
