"""examples/icons.py sorts the pictures of packages, and holds whole emoji out."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

from support.examples import load_example, write_package

EMOJI = 60


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("icons")


def package(folder: Path, vendor: str, lacks: int) -> Path:
    """Write a package of emoji in two sizes, without one of them, and with a patch of skin."""
    listed = [
        {
            "image": f"{number}.png",
            "short_name": f"{'+' * (number == 0)}emoji-{number}",
            "category": "Animals & Nature",
            "subcategory": f"animal-{number % 3}",
            f"has_img_{vendor}": number != lacks,
        }
        for number in range(EMOJI)
    ]
    listed.append({"image": "skin.png", "category": "Component", f"has_img_{vendor}": True})
    files = {"emoji.json": json.dumps(listed).encode()}
    for size in ("64", "20"):
        for item in listed:
            files[f"img/{vendor}/{size}/{item['image']}"] = f"{vendor} {size} {item['image']}".encode()
    return write_package(folder / f"emoji-datasource-{vendor}-16.0.0.tgz", files)


def test_all_drawings_of_an_emoji_are_in_one_split(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example.main([package(tmp_path, "google", lacks=3), package(tmp_path, "twitter", lacks=4)])
    rows = list(csv.DictReader(Path("data/icons.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * (EMOJI - 1) == len(list(Path("data/icons").rglob("*.png")))
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(Path(row["file"]).name, set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {"train", "test"} <= {row["split"] for row in rows}
    first = next(row for row in rows if row["file"] == "twitter/_emoji-0.png")
    assert (first["label"], first["kind"], first["vendor"]) == ("animals_nature", "animal-0", "twitter")
    assert Path("data/icons/twitter/_emoji-0.png").read_bytes() == b"twitter 64 0.png"
    assert not any("emoji-3." in row["file"] and row["vendor"] == "google" for row in rows)
