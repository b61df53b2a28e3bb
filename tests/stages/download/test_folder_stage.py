"""Stage ``download`` as a whole: its outs, its figures, and when DVC runs it again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.core.load_params import read_params, validate
from latentline.data.decode import FORMATS_IN_WORDS
from latentline.data.store import read_card, read_split
from stages.download import __main__ as download
from support.source_files import encoded, flat

ROOT = Path(__file__).resolve().parents[3]
random = np.random.default_rng(0)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A current folder with params.yaml and a folder of 40 images in two classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for number in range(40):
        path = tmp_path / "pictures" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)))
    (tmp_path / "no_labels.csv").touch()
    return tmp_path


def _set(place: Path, **params) -> None:
    content = read_params(ROOT / "params.yaml")
    content["data"] |= {
        "name": "image_folder",
        "path": "pictures",
        "labels": "no_labels.csv",
        "splits": {"val": 0.2, "test": 0.2},
        **params,
    }
    content["denoiser"]["attention_levels"] = [1]  # where captions come in
    content["evaluate"]["neighbours"] = 1  # fewer than the images of any split here
    with (place / "params.yaml").open("w") as file:
        YAML().dump(content, file)


def _figures(place: Path) -> set[str]:
    return {path.name for path in (place / "fig" / "download").iterdir()}


def test_a_labelled_folder_shows_its_classes(place):
    _set(place)
    download.main()
    metrics = json.loads((place / "metrics" / "data.json").read_text())
    assert metrics["train"]["count"] + metrics["val"]["count"] + metrics["test"]["count"] == 40
    assert (metrics["classes"], metrics["channels"], metrics["height"], metrics["width"]) == (2, 3, 9, 7)
    assert (metrics["unreadable"], metrics["duplicates_across_splits"], metrics["train"]["duplicates"]) == (0, 0, 0)
    images = read_split(place / "data" / "prepared", "train").images.to_memory().double() / 255
    assert metrics["train"]["mean"] == pytest.approx(float(images.mean()), abs=1e-6)
    assert metrics["train"]["std"] == pytest.approx(float(images.std(correction=0)), abs=1e-6)
    assert _figures(place) == {
        "images.png",
        "classes.png",
        "class_histogram.png",
        "unreadable.csv",
        "duplicates.csv",
        "left_out.csv",
        "cropped.csv",
    }
    assert not list(place.rglob(".partial-*"))


def test_attributes_are_shown_and_an_unlabelled_folder_shows_images_only(place):
    names = sorted(path.relative_to(place / "pictures").as_posix() for path in (place / "pictures").rglob("*.png"))
    frame = pd.DataFrame(
        {"file": names, "smiling": np.arange(40) % 2, "age": random.normal(size=40), "hair": ["a", "b", "c", "d"] * 10}
    )
    frame.to_csv(place / "labels.csv", index=False)
    _set(place, labels="labels.csv")
    download.main()
    assert _figures(place) == {
        "images.png",
        "attributes.csv",
        "attributes.png",
        "attribute_frequencies.png",
        "unreadable.csv",
        "duplicates.csv",
        "left_out.csv",
        "cropped.csv",
    }
    assert [attribute.kind for attribute in read_card(place / "data" / "prepared").schema] == [
        "binary",
        "continuous",
        "categorical",
    ]
    table = pd.read_csv(place / "fig" / "download" / "attributes.csv").set_index("name")
    assert table["kind"].to_dict() == {"smiling": "binary", "age": "continuous", "hair": "categorical"}
    columns = json.loads((place / "metrics" / "data.json").read_text())["columns"]
    assert {name: column["kind"] for name, column in columns.items()} == table["kind"].to_dict()
    assert columns["hair"]["categories"] == 4
    frame[["file"]].to_csv(place / "labels.csv", index=False)
    download.main()
    assert _figures(place) == {"images.png", "unreadable.csv", "duplicates.csv", "left_out.csv", "cropped.csv"}


def test_images_of_other_proportions_are_counted_logged_and_listed(place, caplog):
    for name, size in {"long.png": (70, 9), "large.png": (70, 90)}.items():
        Image.new("RGB", size).save(place / "pictures" / "cat" / name)
    _set(place)
    download.main()
    assert json.loads((place / "metrics" / "data.json").read_text())["cropped"] == 1
    assert "1 images have other proportions than 7 x 9 and lost their edges; see fig/download/crop" in caplog.text
    listed = pd.read_csv(place / "fig" / "download" / "cropped.csv").to_numpy().tolist()
    assert listed == [["cat/long.png", pytest.approx(0.9)]]


def test_what_is_left_out_is_counted_logged_and_listed(place, caplog):
    for name in ("a.txt", "b.TXT", "c.pdf", "Thumbs.db"):
        (place / "pictures" / "cat" / name).write_bytes(b"x")
    _set(place)
    download.main()
    metrics = json.loads((place / "metrics" / "data.json").read_text())
    assert metrics["left_out"] == {"files": 4, "hidden or of the system": 1, "pdf": 1, "txt": 2}
    assert "left out of data.path: 2 of .txt, 1 of .pdf, 1 hidden or of the system; fig/download/left" in caplog.text
    listed = pd.read_csv(place / "fig" / "download" / "left_out.csv").to_numpy().tolist()
    assert ["cat/a.txt", ".txt"] in listed
    assert len(listed) == 4
    assert (metrics["lowest_value"], metrics["highest_value"]) == (0, 255)


def test_captions_are_named_counted_and_drawn(place, caplog):
    caplog.set_level("INFO")
    for path in sorted((place / "pictures").rglob("*.png"))[1:]:
        path.with_suffix(".txt").write_text(f"{path.parent.name} \U0001f408 {path.stem}", encoding="utf-8")
    (place / "pictures" / "cat" / "stray.txt").write_text("nothing")
    _set(place)
    download.main()
    found = json.loads((place / "metrics" / "data.json").read_text())["captions"]
    assert (found["found_in"], found["without_image"]) == (".txt beside the images", 1)
    splits = [found[name] for name in ("train", "val", "test")]
    assert (sum(split["count"] for split in splits), sum(split["missing"] for split in splits)) == (40, 1)
    assert found["train"]["longest"] == len("dog x 38")
    assert "captions: found in .txt beside the images, for 40 images" in caplog.text
    assert "captions: 1 of 40 images have none" in caplog.text
    assert "captions: 1 belong to no image, such as cat/stray.txt" in caplog.text
    assert {"captions.png", "captions.csv", "captions_unmatched.csv"} <= _figures(place)
    unmatched = pd.read_csv(place / "fig" / "download" / "captions_unmatched.csv").to_numpy().tolist()
    assert unmatched == [["cat/1.png", "image without a caption"], ["cat/stray.txt", "caption without an image"]]
    listed = pd.read_csv(place / "fig" / "download" / "captions.csv").fillna("")
    assert set(listed["found_in"]) == {".txt beside the images"}
    for name, caption in zip(listed["image"], listed["caption"], strict=True):
        assert caption == ("" if name == "cat/1.png" else f"{name[:3]} \U0001f408 {Path(name).stem}")


def test_images_without_a_value_are_left_out_and_counted(place):
    names = sorted(path.relative_to(place / "pictures").as_posix() for path in (place / "pictures").rglob("*.png"))
    lines = [f"{name};{'NA' if row < 3 else row % 2}" for row, name in enumerate(names)]
    (place / "labels.csv").write_text("\n".join(["file;code", *lines]))
    _set(place, labels="labels.csv", missing="drop", attributes={"code": "continuous"})
    download.main()
    metrics = json.loads((place / "metrics" / "data.json").read_text())
    assert sum(metrics[split]["count"] for split in ("train", "val", "test")) == 37
    assert metrics["without_value"] == metrics["columns"]["code"]["missing"] == 3
    assert read_card(place / "data" / "prepared").schema[0].kind == "continuous"


def test_what_is_wrong_with_the_data_is_listed(place):
    (place / "pictures" / "cat" / "broken.png").write_bytes(b"no image")
    for copy in ("x.bmp", "y.bmp"):
        with Image.open(place / "pictures" / "cat" / "1.png") as image:
            image.save(place / "pictures" / "cat" / copy)
    _set(place, max_unreadable=0.1)
    download.main()
    unreadable = pd.read_csv(place / "fig" / "download" / "unreadable.csv")
    assert unreadable.to_numpy().tolist() == [["cat/broken.png", f"not a {FORMATS_IN_WORDS} file"]]
    duplicates = pd.read_csv(place / "fig" / "download" / "duplicates.csv")
    assert set(duplicates["image"]) == {"cat/1.png", "cat/x.bmp", "cat/y.bmp"}
    metrics = json.loads((place / "metrics" / "data.json").read_text())
    assert metrics["unreadable"] == 1
    _set(place, max_unreadable=0.0)
    with pytest.raises(
        UserError, match=r"data\.max_unreadable \(0\.0\) must be at least the unreadable fraction, 1 of 43"
    ):
        download.main()


def test_many_classes_and_large_images_still_give_small_figures(place):
    for number in range(90):
        path = place / "pictures" / f"class{number:02d}" / "1.jpg"
        path.parent.mkdir()
        path.write_bytes(encoded(flat(number, (200, 300)), "JPEG"))
    _set(place, image_size=[200, 300])
    download.main()
    for name, most in (("classes.png", 40 * 70), ("class_histogram.png", 1000)):
        with Image.open(place / "fig" / "download" / name) as image:
            assert max(image.size) < most


@pytest.mark.parametrize("name", ["mnist", "emnist", "svhn", "digits"])
def test_mirrored_characters_are_refused(name):
    content = read_params(ROOT / "params.yaml")
    content["data"] |= {"name": name, "horizontal_flip": True}
    with pytest.raises(UserError, match=rf"data\.horizontal_flip \(true\) must be false for the characters of {name}"):
        validate(content)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image_size", [64]),
        ("image_size", 0),
        ("image_size", [8, 8, 8]),
        ("channels", 2),
        ("path", ""),
        ("path", None),
        ("labels", None),
        ("splits", {"val": 0.6, "test": 0.1}),
        ("max_unreadable", 1.0),
        ("medmnist_size", 32),
        ("emnist_split", "letters"),
        ("name", "cifar"),
    ],
)
def test_bad_settings_are_refused_by_name(setting, value):
    content = read_params(ROOT / "params.yaml")
    content["data"][setting] = value
    with pytest.raises(UserError, match=rf"data\.{setting}"):
        validate(content)


def test_preparing_imports_neither_figures_nor_the_report():
    files = {path.relative_to(ROOT).as_posix() for path in module_closure("stages.download.prepare", ROOT)}
    assert not [file for file in files if "figures" in file or file.endswith("report.py")]


def _dvc(folder: Path, *command: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "PYTHON"))}
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": f"{folder}-site",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["dvc", *command], cwd=folder, env=kept | quiet, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_dvc_runs_the_stage_again_when_an_image_or_label_changed_and_only_then(place):
    repository = place / "repository"
    repository.mkdir()
    for name in ("src", "stages", "data/source", "dvc.yaml", ".dvcignore"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, repository / name)
    _dvc(repository, "init", "--no-scm")
    pictures = place / "pictures"  # outside the repository
    labels = place / "labels.csv"
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    labels.write_text("file,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in names))
    _set(repository, path=str(pictures), labels=str(labels), max_unreadable=0.1)

    def changed() -> bool:
        return "download" in json.loads(_dvc(repository, "status", "--json", "download"))

    def change_label() -> None:
        labels.write_text(labels.read_text().replace("cat/1.png,cat", "cat/1.png,dog"))

    edits = [
        dict,  # nothing: it never ran
        lambda: (pictures / "cat" / "new.png").write_bytes(encoded(flat(3))),
        lambda: (pictures / "cat" / "1.png").write_bytes(encoded(flat(4))),
        (pictures / "dog" / "0.png").unlink,
        change_label,
    ]
    for edit in edits:
        edit()
        assert changed()
        _dvc(repository, "repro", "download")
        assert not changed()
    os.utime(pictures / "cat" / "3.png")
    assert not changed()
