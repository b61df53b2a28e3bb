"""dvc.lock depends on params, code and data alone: not on load, workers, folders or the queue, hardly on threads."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from latentline.runtime.checkpoint import load_checkpoint
from support.checkout import TINY, Checkout, fresh_checkout

pytestmark = pytest.mark.slow
STAGES = ("download", "train_autoencoder")
RELATIVE = 1e-3  # difference of weights and losses between thread counts, as docs/reliability.md states it
PATIENCE = 900  # seconds


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout in which an autoencoder has trained. Tests that change anything take ``copy``."""
    checkout = fresh_checkout(root, tmp_path_factory.mktemp("same") / "checkout")
    pictures = checkout.folder / "pictures"
    draw = torch.Generator().manual_seed(0)
    for index in range(120):
        path = pictures / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(256, (9, 9), generator=draw, dtype=torch.uint8).numpy()).save(path)
    own = {
        "data.name": "image_folder",
        "data.path": "pictures",
        "data.image_size": 8,
        "data.channels": 1,
        "compute.workers": 0,
    }
    checkout.change(**TINY | own)
    checkout.commit()
    checkout.repro("train_autoencoder")
    checkout.commit()
    return checkout


@pytest.fixture
def copy(finished: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of ``finished`` without saved states and without DVC's run cache."""
    checkout = finished.copy(tmp_path / "checkout")
    shutil.rmtree(checkout.folder / ".state", ignore_errors=True)
    shutil.rmtree(checkout.folder / ".dvc" / "cache" / "runs")
    return checkout


@pytest.fixture
def load() -> Iterator[None]:
    """Keep more processes busy than there are cores."""
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        yield


def _lock(text: str) -> dict[str, Any]:
    """Return the stages' entries of a dvc.lock."""
    return {stage: YAML(typ="safe").load(text)["stages"][stage] for stage in STAGES}


def _here(checkout: Checkout) -> dict[str, Any]:
    return _lock((checkout.folder / "dvc.lock").read_text())


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(finished, copy, workers):
    copy.change(**{"compute.workers": workers})
    assert copy.repro("--force", "download") == {"check_params", "download"}
    assert _here(copy) == _here(finished)


@pytest.mark.usefixtures("load")
def test_a_busy_machine_gives_the_same_bytes(finished, copy):
    assert copy.repro("--force", "train_autoencoder") == {"check_params", *STAGES}
    assert _here(copy) == _here(finished)


def test_a_temporary_folder_gives_the_same_bytes(finished, copy):
    output = copy.dvc("exp", "run", "--temp", "--name", "elsewhere", "--force", "train_autoencoder")
    assert "Running stage 'train_autoencoder'" in output
    assert _lock(_of_the_experiment(copy, "elsewhere")) == _here(finished)


def test_the_queue_gives_the_same_bytes(finished, copy):
    copy.dvc("exp", "run", "--queue", "--name", "queued", "--force", "train_autoencoder")
    copy.dvc("queue", "start")
    deadline = time.monotonic() + PATIENCE
    while "Success" not in (status := copy.dvc("queue", "status")) and time.monotonic() < deadline:
        assert "Failed" not in status
        time.sleep(2)
    assert "Running stage 'train_autoencoder'" in copy.dvc("queue", "logs", "queued")
    assert _lock(_of_the_experiment(copy, "queued")) == _here(finished)


def _of_the_experiment(checkout: Checkout, name: str) -> str:
    """Return an experiment's dvc.lock."""
    (reference,) = checkout.run("git", "for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}").stdout.split()
    return checkout.run("git", "show", f"{reference}:dvc.lock").stdout


def test_two_threads_give_the_weights_and_losses_of_one_to_a_tolerance(finished, copy):
    copy.change(**{"compute.threads": 2})
    copy.repro("--force", "train_autoencoder")
    one, two = (_weights(checkout) for checkout in (finished, copy))
    assert (one - two).norm() <= RELATIVE * one.norm()
    for name in ("test_loss", "psnr"):
        assert _metrics(copy)[name] == pytest.approx(_metrics(finished)[name], rel=RELATIVE)


def _weights(checkout: Checkout) -> torch.Tensor:
    path = checkout.folder / "checkpoints" / "autoencoder" / "autoencoder.safetensors"
    tensors = load_checkpoint(path, kind="autoencoder", made_by="").tensors
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def _metrics(checkout: Checkout) -> dict[str, float]:
    return json.loads((checkout.folder / "metrics" / "autoencoder.json").read_text())
