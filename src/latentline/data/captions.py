"""Captions of the prepared images: one text per image, stored beside the shards.

data/prepared/captions-train.jsonl    one JSON string per line, in the order of the images; "" = no caption
data/prepared/card.json               per split: count, missing, longest, sha256; nothing for data without captions
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentline.core.files import replaced_file, require_sha256, sha256_file
from latentline.data.store import MADE_BY, read_card

_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair, which UTF-8 cannot hold
_NOT_TEXT = re.compile("[\x00-\x1f\x7f\ufeff]")  # control characters and byte-order marks


@dataclass
class CaptionStats:
    """Statistics of the captions of a split."""

    count: int = 0
    """Images, with and without a caption."""
    missing: int = 0
    """Images without a caption."""
    longest: int = 0
    """Characters of the longest caption."""


def clean_caption(text: str) -> str:
    """Return a caption in Unicode form NFC, in one line, with single blanks and none around it.

    Control characters and byte-order marks count as blanks. Half of a surrogate pair becomes U+FFFD. No caption is cut.
    """
    text = _NOT_TEXT.sub(" ", _SURROGATE.sub("\ufffd", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def write_captions(folder: Path, split: str, captions: Iterable[str]) -> dict[str, Any]:
    """Write the captions of a split, in the order of its images.

    Args:
        folder: exists.
        split: train, val or test.
        captions: one per image; "" = this image has none.

    Returns:
        The description for card.json: the fields of :class:`CaptionStats`, and the file's ``sha256``.
    """
    stats = CaptionStats()
    with replaced_file(_path(folder, split)) as temporary, temporary.open("wb") as file:
        for text in captions:
            caption = clean_caption(text)
            stats.count += 1
            stats.missing += not caption
            stats.longest = max(stats.longest, len(caption))
            file.write(json.dumps(caption, ensure_ascii=False).encode() + b"\n")
    return {**asdict(stats), "sha256": sha256_file(_path(folder, split))}


def read_captions(root: Path, name: str) -> list[str] | None:
    """Return the captions of split ``name`` (train, val or test), one per image of it; "" = this image has none.

    None: the data set has no captions.

    Raises:
        UserError: the file or ``root``/card.json is missing or damaged.
    """
    card = read_card(root)
    if name not in card.captions:
        return None
    path = _path(root, name)
    require_sha256(path, card.captions[name], root / "card.json", MADE_BY)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _path(folder: Path, split: str) -> Path:
    return folder / f"captions-{split}.jsonl"
