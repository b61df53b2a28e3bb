"""weights/ holds the default recipe's checkpoints, as a DVC remote in git, and a clone draws images with them."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentline.core.arrays import load_arrays
from support.checkout import Checkout, fresh_checkout
from support.documented import Page

STORED = Path("weights") / "files" / "md5"
LARGEST_MIB = 13
BESIDE_CHECKPOINTS = ("encoded_img/labels.safetensors", "encoded_img/stats.json")  # what sampling needs of the latents


def _stored(root: Path, md5: str) -> Path:
    return root / STORED / md5[:2] / md5[2:]


def _files_of(root: Path, folder: str) -> Iterator[str]:
    """Yield the md5 of each file in the folder whose own md5 is ``folder``."""
    yield from (entry["md5"] for entry in json.loads(_stored(root, folder).read_text()))


def test_weights_are_exactly_the_checkpoints_of_dvc_lock_and_what_else_sampling_needs(root):
    stages = YAML(typ="safe", pure=True).load(root / "dvc.lock")["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    folders = [md5 for path, md5 in outs.items() if path.startswith(("checkpoints/", "encoded_img/text"))]
    statistics = [outs[path] for path in BESIDE_CHECKPOINTS]
    assert folders
    missing = [md5 for md5 in (*folders, *statistics) if not _stored(root, md5).is_file()]
    assert missing == [], "weights/ is not of the run in dvc.lock: `make ship-weights` after `dvc repro`"
    files = [md5 for folder in folders for md5 in _files_of(root, folder)]
    expected = {_stored(root, md5) for md5 in (*folders, *files, *statistics)}
    assert {path for path in (root / "weights").rglob("*") if path.is_file()} == expected


def test_each_file_of_weights_has_the_content_of_its_name(root):
    for path in (root / STORED).glob("*/*"):
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert digest == (path.parent.name + path.name).removesuffix(".dir")


def test_weights_are_small(root):
    assert sum(path.stat().st_size for path in (root / STORED).glob("*/*")) < LARGEST_MIB * 2**20


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Checkout:
    """Return a fresh clone of this repository."""
    checkout = fresh_checkout(root, tmp_path / "clone")
    shutil.copy(root / "dvc.lock", checkout.folder)
    shutil.copytree(root / "metrics", checkout.folder / "metrics")
    checkout.commit()
    return checkout


@pytest.mark.slow
def test_a_fresh_clone_draws_images_without_training_and_without_data(root, clone):
    page = Page(root / "docs" / "sharing.md", {})
    page.run(clone, "make weights")
    assert clone.run("git", "status", "--porcelain").stdout == ""
    clone.change(**{"sample.count": 20})
    assert "Running stage 'sample'" in page.run(clone, "dvc repro --single-item sample")
    assert not (clone.folder / "data" / "prepared").exists()
    samples, _ = load_arrays(clone.folder / "data" / "generated" / "samples-00000.safetensors", "sample")
    assert samples["images"].shape == (20, 1, 28, 28)
    assert samples["images"].float().std() > 30
    assert clone.metrics("sample")["count"] == 20


@pytest.mark.slow
def test_shipping_the_weights_again_changes_nothing(root, clone):
    page = Page(root / "docs" / "sharing.md", {})
    page.run(clone, "make weights")
    page.run(clone, "make ship-weights")
    assert clone.run("git", "status", "--porcelain").stdout == ""
