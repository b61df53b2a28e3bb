"""examples/icons.py sorts the pictures of packages, and holds drawings of single vendors out."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

from support.examples import load_example, write_package

EMOJI = 60
ALIKE = {f"{number}.png" for number in range(20)}  # all vendors have the same picture of these


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("icons")


def package(folder: Path, vendor: str, lacks: int) -> Path:
    """Write a package of emoji in two sizes, without one of them, and with a patch of skin."""
    listed = [
        {
            "image": f"{number}.png",
            "short_name": f"{'+' * (number == 0)}emoji-{number}",
            "name": f"EMOJI {number}",
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
            drawn_by = "all" if item["image"] in ALIKE else vendor
            files[f"img/{vendor}/{size}/{item['image']}"] = f"{drawn_by} {size} {item['image']}".encode()
    return write_package(folder / f"emoji-datasource-{vendor}-16.0.0.tgz", files)


@pytest.fixture
def rows(example, tmp_path, monkeypatch) -> list[dict[str, str]]:
    """Write the pictures of two packages below the working folder; return the rows of their table."""
    monkeypatch.chdir(tmp_path)
    example.main([package(tmp_path, "google", lacks=23), package(tmp_path, "twitter", lacks=24)])
    return list(csv.DictReader(Path("data/icons.csv").read_text(encoding="utf-8").splitlines()))


def test_at_most_one_vendor_of_an_emoji_is_held_out_and_never_a_picture_that_training_has(rows):
    assert len(rows) == 2 * (EMOJI - 1) == len(list(Path("data/icons").rglob("*.png")))
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(Path(row["file"]).stem, []).append(row["split"])
    assert all("train" in found for found in splits.values())
    held_out = [name for name, found in splits.items() if set(found) != {"train"}]
    assert not {"emoji-23", "emoji-24", *(f"emoji-{number}" for number in range(20))} & set(held_out)
    assert {"train", "val", "test"} == {row["split"] for row in rows}
    assert {row["vendor"] for row in rows if row["split"] != "train"} == {"google", "twitter"}


def test_the_table_has_what_each_picture_shows(rows):
    first = next(row for row in rows if row["file"] == "twitter/_emoji-0.png")
    assert {name: first[name] for name in ("label", "kind", "vendor", "caption")} == {
        "label": "animals_nature",
        "kind": "animal-0",
        "vendor": "twitter",
        "caption": "emoji 0",
    }
    assert Path("data/icons/twitter/_emoji-0.png").read_bytes() == b"all 64 0.png"
    assert not any("emoji-23." in row["file"] and row["vendor"] == "google" for row in rows)
