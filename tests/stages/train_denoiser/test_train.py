"""Stage ``train_denoiser``, run as it is on the pixels of a few digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from latentline.core.paths import DENOISER
from latentline.core.shards import StoredRows
from latentline.runtime.checkpoint import load_checkpoint
from latentline.training import config as training
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser

pytestmark = pytest.mark.usefixtures("machine")

KNOBS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.name": "identity",
    "denoiser.epochs": 3,
    "denoiser.channels": [16],
    "denoiser.preview.every_epochs": 0,
    "denoiser.optimizer.batch_size": 20,
    "denoiser.optimizer.warmup_steps": 2,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
}
Run = Callable[..., tuple[dict[str, Tensor], dict[str, Any]]]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """A folder in which every stage before it ran."""
    folder = tmp_path_factory.mktemp("encoded")
    write_params(folder, KNOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, train_autoencoder, encode_and_cache_latents):
            stage.main()
    return folder


@pytest.fixture
def run(encoded: Path, write_params, monkeypatch) -> Run:
    """Runs the stage with changed knobs; gives the weights it keeps and its metrics."""
    monkeypatch.chdir(encoded)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def train(**changes: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
        write_params(encoded, {**KNOBS, **changes})
        train_denoiser.main()
        return load_checkpoint(DENOISER, kind="denoiser", made_by="").tensors, json.loads(Path("metrics/denoiser.json").read_text())

    return train


def test_of_several_averages_the_one_with_the_lowest_validation_loss_is_kept_and_named(run):
    alone = {decay: run(**{"denoiser.ema_decays": [decay]}) for decay in (0.0, 0.9)}
    losses = {decay: metrics["val_loss"] for decay, (_, metrics) in alone.items()}
    assert losses[0.0] != losses[0.9]
    best = min(losses, key=losses.__getitem__)
    for decays in ([0.0, 0.9], [0.9, 0.0]):
        tensors, metrics = run(**{"denoiser.ema_decays": decays})
        assert metrics["ema_decay"] == best
        assert metrics["val_loss_by_ema_decay"] == {str(decay): loss for decay, loss in losses.items()}
        assert all(torch.equal(tensors[name], kept) for name, kept in alone[best][0].items())
        assert {name: metrics[name] for name in ("val_loss", "test_loss")} == {name: alone[best][1][name] for name in ("val_loss", "test_loss")}
        assert pd.read_csv("fig/denoiser/loss.csv")["val_loss"].iloc[-1] == pytest.approx(losses[decays[0]])  # the curve is the first one's


def test_batches_in_parts_give_the_same_denoiser_to_float_tolerance(run):
    whole, metrics = run()
    parts, metrics_of_parts = run(**{"denoiser.optimizer.accumulate": 3})
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=1e-3, msg=name)
    assert metrics_of_parts["test_loss"] == pytest.approx(metrics["test_loss"], rel=1e-4)
    assert metrics_of_parts["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-4)
    assert any(not torch.equal(parts[name], tensor) for name, tensor in whole.items())  # it was cut


def test_latents_read_from_disk_at_every_step_give_the_same_bytes_as_latents_in_memory(run, monkeypatch):
    in_memory, metrics = run()
    monkeypatch.setattr(training, "_MOST_BYTES", 0)
    monkeypatch.setattr(StoredRows, "load", lambda rows: pytest.fail("a whole split was read"))
    from_disk, metrics_from_disk = run()
    assert metrics == metrics_from_disk
    for name, tensor in in_memory.items():
        assert torch.equal(from_disk[name], tensor)


def test_each_schedule_trains_another_denoiser(run):
    knobs = {"denoiser.optimizer.milestones": [1, 2]}
    losses = {run(**knobs, **{"denoiser.optimizer.schedule": name})[1]["test_loss"] for name in ("warmup_stable_decay", "cosine", "milestones")}
    assert len(losses) == 3


def test_every_epoch_has_its_loss_by_time_beside_the_whole(run):
    run(**{"denoiser.ema_decays": [0.5]})
    table = pd.read_csv("fig/denoiser/loss.csv")
    by_time = table[[name for name in table if name.startswith("val_loss@")]]
    assert len(table) == 3
    assert len(by_time.columns) > 1
    assert (by_time.min(axis=1) <= table["val_loss"]).all()
    assert (by_time.max(axis=1) >= table["val_loss"]).all()
    assert (by_time.iloc[0] != by_time.iloc[-1]).any()
    assert Path("fig/denoiser/loss_by_time.png").stat().st_size > 0
