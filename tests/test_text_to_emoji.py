"""examples/text_to_emoji.py sorts the pictures of a package, holds combinations of words out, and ranks samples."""

import csv
import io
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from support.examples import load_example, write_package

TONES = ["1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"]
NAMES = ("MAN FARMER", "WOMAN FARMER", "FARMER", "WAVING HAND SIGN", "CRYING CAT FACE", "CAT FACE")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("text_to_emoji")


def package(path: Path) -> Path:
    """Write a package of six emoji: persons and hand in all skin tones, cats in none, and a patch of skin."""
    listed, images = [], {}
    for number, name in enumerate(NAMES):
        tones = TONES if "CAT" not in name else []
        icons = [{"image": f"{number}.png", "has_img_google": True}]
        icons += [{"image": f"{number}-{tone}.png", "has_img_google": True} for tone in tones]
        images |= {icon["image"]: (number, row, 0) for row, icon in enumerate(icons)}
        variations = dict(zip(tones, icons[1:], strict=True))
        listed.append({"name": name, "category": "People & Body", **icons[0], "skin_variations": variations})
    # One vendor draws all women farmers alike: then none of them is held out.
    images |= {f"1-{tone}.png": (1, 0, 0) for tone in TONES}
    listed.append({"name": "SKIN", "category": "Component", "image": "skin.png", "has_img_google": True})
    images["skin.png"] = (0, 0, 9)
    files = {"emoji.json": json.dumps(listed).encode()}
    for name, colour in images.items():
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
        files[f"img/google/64/{name}"] = buffer.getvalue()
    return write_package(path, files)


def test_each_person_of_an_occupation_lacks_another_skin_tone_in_training(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example.pictures([package(tmp_path / "emoji-datasource-google-16.0.0.tgz")])
    rows = list(csv.DictReader((tmp_path / "data/emoji.csv").read_text(encoding="utf-8").splitlines()))
    test = [row["caption"] for row in rows if row["split"] == "test"]
    assert {row["vendor"] for row in rows} == {"google"}
    assert all((tmp_path / "data/emoji" / row["file"]).exists() for row in rows)
    tones = {
        name: [caption.split(": ")[1] for caption in test if caption.split(": ")[0] == name]
        for name in ("man farmer", "woman farmer", "farmer", "waving hand sign")
    }
    assert [len(tones[name]) for name in tones] == [1, 0, 1, 0]
    assert tones["man farmer"] != tones["farmer"]
    assert "crying cat face" in test
    assert len(test) == 3
    assert len(rows) == 4 * 6 + 2 - 1  # of the women farmers one would have been held out


def test_retrieval_counts_true_pictures_and_their_skin_tones(example):
    captions = ["a: dark skin tone", "b", "c: light skin tone", "a: light skin tone", "c"]
    everything = example.Examples(torch.zeros(5, 3, 1, 1), captions, ["google"] * 5)
    features = torch.tensor([[0.0], [10], [20], [1], [22]])
    retrieval = example.Retrieval(everything, torch.cat([features]), 3)
    assert retrieval.other_tones() == [3, 1, 4]
    found = example.Retrieval(
        example.Examples(torch.zeros(7, 3, 1, 1), [*captions, "d", "e"], ["google"] * 7),
        torch.cat([features, torch.tensor([[30.0], [40]])]),
        5,
    ).scores(torch.tensor([[0.4], [10], [21.5], [1], [12]]))
    # The third is nearest to the plain c, the fifth to b; all five are among the five nearest of five.
    assert found == {"R@1": 0.6, "R@5": 1.0, "right skin tone": 0.5}
