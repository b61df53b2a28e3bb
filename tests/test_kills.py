"""Every stage ends with the same bytes after kills and a full disk; `python tests/kills.py` kills ten times each."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from kills import Subject, kill_stages
from support.checkout import TINY, Checkout, fresh_checkout

pytestmark = pytest.mark.slow
STAGE = "train_feature_extractor"
FULL, ROOMY = "8k", "64m"


def test_every_stage_killed_at_random_moments_ends_with_the_bytes_of_a_run_never_killed(root, tmp_path):
    outcomes = kill_stages(tmp_path, [], kills=2, seed=0)
    assert set(outcomes) == set(YAML(typ="safe").load(root / "dvc.yaml")["stages"])
    for stage, outcome in outcomes.items():
        assert outcome.kills.total() == 2, stage
        assert outcome.lives > 0, stage
        assert outcome.different == 0, stage


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], None]]:
    """Return a function that mounts a disk of a size under a folder, or resizes the one there."""
    if os.geteuid():
        pytest.skip("only root may mount")
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{'remount,' if folder in mounted else ''}size={size}", "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr}")
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout in which the feature extractor has trained."""
    checkout = fresh_checkout(root, tmp_path_factory.mktemp("disk") / "checkout")
    checkout.change(**TINY, **{"compute.save_every_seconds": 0.01})
    checkout.commit()
    checkout.repro(STAGE)
    return checkout


@pytest.mark.parametrize("place", [".state", "checkpoints"])
def test_a_full_disk_stops_a_stage_in_one_line_and_with_room_it_ends_with_the_same_bytes(trained, small_disk, place):
    subject = Subject(trained, STAGE)
    expected = subject.recorded()
    assert expected is not None
    subject.forget()
    small_disk(trained.folder / place, FULL)
    done = trained.run("python", "-m", "dvc", "repro", "--single-item", "--no-run-cache", STAGE, expect=255)
    (line,) = re.findall("^error: .*", done.stderr, re.MULTILINE)
    assert line.startswith(f"error: {STAGE}: the disk is full (")
    assert "Traceback" not in done.stderr
    assert subject.recorded() is None
    assert not list((trained.folder / place).rglob(".partial-*"))
    assert not list((trained.folder / "checkpoints").rglob("*.safetensors"))
    small_disk(trained.folder / place, ROOMY)
    trained.dvc("repro", "--single-item", "--no-run-cache", STAGE)
    assert subject.recorded() == expected
