"""Stage ``train_denoiser`` on the pixels of a few digits: averages, micro-batches, resume key, tables and figures."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.core.paths import DENOISER
from latentline.core.shards import ShardedArray
from latentline.runtime.checkpoint import load_checkpoint
from latentline.training import config as training
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_denoiser import report, train
from support.pictures import grid_size
from support.training_run import reference

pytestmark = pytest.mark.usefixtures("machine")

PARAMS = {
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
    """Return a folder in which every stage before it ran."""
    folder = tmp_path_factory.mktemp("encoded")
    write_params(folder, PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, train_autoencoder, encode_and_cache_latents):
            stage.main()
    return folder


@pytest.fixture
def run(encoded: Path, write_params, monkeypatch, tmp_path) -> Run:
    """Run the stage with changed settings; return the weights in its checkpoint and its metrics."""
    monkeypatch.chdir(encoded)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # no test resumes from the state of another

    def train(**changes: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
        write_params(encoded, {**PARAMS, **changes})
        train_denoiser.main()
        metrics = json.loads(Path("metrics/denoiser.json").read_text())
        return load_checkpoint(DENOISER, kind="denoiser", made_by="").tensors, metrics

    return train


def test_of_several_averages_the_checkpoint_has_the_one_with_the_lowest_validation_loss(run):
    run = partial(run, **{"denoiser.guide_epochs": 0})
    alone = {decay: run(**{"denoiser.ema_decays": [decay]}) for decay in (0.0, 0.9)}
    losses = {decay: metrics["val_loss"] for decay, (_, metrics) in alone.items()}
    assert losses[0.0] != losses[0.9]
    best = min(losses, key=losses.__getitem__)
    for decays in ([0.0, 0.9], [0.9, 0.0]):
        tensors, metrics = run(**{"denoiser.ema_decays": decays})
        assert metrics["ema_decay"] == best
        assert metrics["val_loss_by_ema_decay"] == {str(decay): loss for decay, loss in losses.items()}
        assert all(torch.equal(tensors[name], kept) for name, kept in alone[best][0].items())
        assert {name: metrics[name] for name in ("val_loss", "test_loss")} == {
            name: alone[best][1][name] for name in ("val_loss", "test_loss")
        }
        last = pd.read_csv("fig/denoiser/loss.csv")["val_loss"].iloc[-1]
        assert last == pytest.approx(losses[decays[0]])  # the curve is the first one's


def test_the_guide_is_the_average_of_the_first_epochs(run):
    schedule = {"denoiser.optimizer.schedule": "milestones"}  # whose rate does not depend on the number of epochs
    longer, _ = run(**schedule, **{"denoiser.guide_epochs": 2})
    shorter, _ = run(**schedule, **{"denoiser.guide_epochs": 2, "denoiser.epochs": 2})
    assert not any(name.startswith("guide.") for name in shorter)
    guide = {name.removeprefix("guide."): tensor for name, tensor in longer.items() if name.startswith("guide.")}
    assert guide.keys() == shorter.keys()
    assert all(torch.equal(tensor, shorter[name]) for name, tensor in guide.items())
    assert any(not torch.equal(tensor, longer[name]) for name, tensor in guide.items())


def test_micro_batches_give_the_same_denoiser_to_float_tolerance(run):
    whole, metrics = run()
    accumulated, metrics_accumulated = run(**{"denoiser.optimizer.accumulate": 3})
    for name, tensor in whole.items():
        torch.testing.assert_close(accumulated[name], tensor, rtol=1e-3, atol=1e-3, msg=name)
    assert metrics_accumulated["test_loss"] == pytest.approx(metrics["test_loss"], rel=1e-4)
    assert metrics_accumulated["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-4)
    assert any(not torch.equal(accumulated[name], tensor) for name, tensor in whole.items())


def test_latents_read_from_disk_at_every_step_give_the_same_bytes_as_latents_in_memory(run, monkeypatch):
    in_memory, metrics = reference(run)
    monkeypatch.setattr(training, "_MOST_BYTES", 0)
    monkeypatch.setattr(ShardedArray, "to_memory", lambda rows: pytest.fail("a whole split was read"))
    from_disk, metrics_from_disk = run()
    assert metrics == metrics_from_disk
    for name, tensor in in_memory.items():
        assert torch.equal(from_disk[name], tensor)


def test_each_schedule_trains_another_denoiser(run):
    params = {"denoiser.optimizer.milestones": [1, 2]}
    losses = {
        run(**params, **{"denoiser.optimizer.schedule": name})[1]["test_loss"]
        for name in ("warmup_stable_decay", "cosine", "milestones")
    }
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


def test_a_preview_that_is_not_finite_stops_with_the_setting(run, monkeypatch):
    monkeypatch.setattr(
        "stages.train_denoiser.report.draw_latents", lambda *arguments: torch.full((2, 1, 8, 8), torch.nan)
    )
    message = r"^denoiser\.preview\.guidance_scale \(1\.5\) must give finite latents, not NaN or infinity in 2 of 2; "
    with pytest.raises(UserError, match=message):
        run(**{"denoiser.preview.every_epochs": 1, "denoiser.preview.guidance_scale": 1.5})


def test_previews_and_partial_denoising_are_drawn(run):
    run(**{"denoiser.preview.every_epochs": 2, "denoiser.preview.height": 3})
    figures = {path.name for path in Path("fig/denoiser").iterdir()}
    assert figures >= {"preview_0002.png", "partial_denoising.png", "loss.png", "buckets.png", "buckets.csv"}
    assert "preview_0003.png" not in figures


def test_other_preview_settings_cost_no_training_step_and_draw_the_last_preview_again(run, monkeypatch):
    preview = {"denoiser.preview.every_epochs": 1, "denoiser.preview.height": 3, "denoiser.preview.width": 2}
    before, _ = run(**preview)
    assert [path.name for path in _previews()] == [f"preview_000{epoch}.png" for epoch in (1, 2, 3)]
    drawn, narrow = _previews()[-1].read_bytes(), grid_size(_previews()[-1])
    monkeypatch.setattr(train, "denoising_loss", lambda *_: pytest.fail("a step was taken"))
    changed, _ = run(**{**preview, "denoiser.preview.width": 4})
    assert all(torch.equal(changed[name], tensor) for name, tensor in before.items())
    (path,) = _previews()  # those of earlier epochs would have the old width
    assert path.name == "preview_0003.png"
    wide = grid_size(path)
    assert wide[0] > narrow[0]
    assert wide[1] == narrow[1]
    run(**preview)
    assert [path.name for path in _previews()] == [f"preview_000{epoch}.png" for epoch in (1, 2, 3)]
    assert _previews()[-1].read_bytes() == drawn


def test_a_preview_drawn_after_the_training_is_the_one_drawn_during_it(run):
    preview = {"denoiser.preview.every_epochs": 3, "denoiser.ema_decays": [0.5, 0.9]}
    reference(lambda: run(**preview))
    during = _previews()[0].read_bytes()
    run(**{**preview, "denoiser.preview.every_epochs": 0})
    assert _previews() == []
    run(**preview)
    assert [path.read_bytes() for path in _previews()] == [during]


def _previews() -> list[Path]:
    return sorted(Path("fig/denoiser").glob("preview_*.png"))


def test_figures_that_cannot_be_drawn_cost_no_training_step(run, monkeypatch):
    """The stage is killed while it draws; the next run ends with the same weights and takes no step."""
    changes = {"denoiser.ema_decays": [0.3], "compute.save_every_seconds": 1e-6}
    with monkeypatch.context() as patch:
        patch.setattr(report, "curves", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            run(**changes)
    weights = load_checkpoint(DENOISER, kind="denoiser", made_by="").tensors
    with monkeypatch.context() as patch:
        patch.setattr(train, "denoising_loss", lambda *_: pytest.fail("a step was taken"))
        again, _ = run(**changes)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_what_computes_the_denoiser_imports_nothing_that_draws_it(root):
    closure = {path.relative_to(root).as_posix() for path in module_closure("stages.train_denoiser.train", root)}
    assert {"stages/train_denoiser/params.py", "stages/train_denoiser/init_from.py"} <= closure
    assert [path for path in closure if path.endswith("/report.py") or "/figures/" in path] == []


def test_the_saved_state_is_keyed_by_what_computes_the_denoiser(run, monkeypatch):
    computed_by = []
    saving_of = train_denoiser.saving_of

    def watched(*arguments, **options):
        computed_by.append(options["computed_by"])
        return saving_of(*arguments, **options)

    monkeypatch.setattr(train_denoiser, "saving_of", watched)
    run()
    assert computed_by == [["stages.train_denoiser.train"]]
