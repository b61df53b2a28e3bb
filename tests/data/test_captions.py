"""Captions beside the prepared images: texts in any script come back line by line, and a changed file is refused."""

import pytest

from latentline.core.errors import UserError
from latentline.core.files import write_sealed_json
from latentline.core.labels import schema_to_json
from latentline.data.captions import clean_caption, read_captions, write_captions

TEXTS = ["a red square", "", 'with "quotes"\\', "猫 \U0001f468\u200d\U0001f52c", "قطة حمراء", "x" * 10_000]


def _store(root, captions: dict[str, list[str]]) -> None:
    described = {name: write_captions(root, name, texts) for name, texts in captions.items()}
    splits = {name: {"count": len(texts), "shards": {}} for name, texts in captions.items()}
    card = {"schema": schema_to_json(()), "shape": [1, 2, 2], "horizontal_flip": False, "splits": splits}
    write_sealed_json(root / "card.json", {**card, "captions": described} if captions else card)


def test_captions_come_back_in_order_and_are_counted(tmp_path):
    _store(tmp_path, {"train": TEXTS, "test": ["one"]})
    assert read_captions(tmp_path, "train") == TEXTS
    assert read_captions(tmp_path, "test") == ["one"]
    described = write_captions(tmp_path, "train", iter(TEXTS))
    assert {name: described[name] for name in ("count", "missing", "longest")} == {
        "count": 6,
        "missing": 1,
        "longest": 10_000,
    }


def test_data_without_captions_gives_none(tmp_path):
    _store(tmp_path, {})
    assert read_captions(tmp_path, "train") is None


def test_a_changed_or_missing_file_is_refused_with_the_stage_to_run(tmp_path):
    _store(tmp_path, {"train": TEXTS})
    path = tmp_path / "captions-train.jsonl"
    path.write_text(path.read_text().replace("red", "blue"))
    with pytest.raises(UserError, match=r"captions-train\.jsonl .*must have the sha256 .*dvc repro download"):
        read_captions(tmp_path, "train")
    path.unlink()
    with pytest.raises(UserError, match="is missing; run `dvc repro download`"):
        read_captions(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a\tred \r\n\r\n square\n", "a red square"),
        ("\ufeffe\u0301", "\u00e9"),
        ("a\0b\u2028c\x85d", "a b c d"),
        ("\ud83d!", "\ufffd!"),
        (" \n\0\ufeff ", ""),
        ("\U0001f468\u200d\U0001f52c \u05d0\u200f", "\U0001f468\u200d\U0001f52c \u05d0\u200f"),
    ],
)
def test_a_caption_is_one_line_of_composed_characters(text, cleaned):
    assert clean_caption(text) == cleaned
