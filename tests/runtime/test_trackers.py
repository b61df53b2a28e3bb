"""Trackers receive settings and epochs, their failures harm nothing, and installed ones write what they receive."""

import json
import logging
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.core.seeds import generator
from latentline.runtime import trackers
from latentline.runtime.resume import ResumeFile
from latentline.runtime.trackers import Tracker, Trackers
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.optimizer import Optimizer

ROWS = [{"epoch": 1, "loss": 0.5, "val_loss": 0.75}, {"epoch": 2, "loss": 0.25, "val_loss": 0.5}]
SETTINGS = {"epochs": 2, "optimizer": {"lr": 0.004, "betas": [0.9, 0.99]}}
FLAT = {"epochs": 2, "optimizer.lr": 0.004, "optimizer.betas": [0.9, 0.99]}


class Recorder(Tracker):
    """Remembers its calls; the one named by ``fails`` raises."""

    calls: list[object]
    fails = ""

    def __init__(self, folder, stage, params):
        self._do("start", folder.is_dir() and folder.is_absolute(), stage, params)

    def log(self, row, epoch):
        self._do("log", row, epoch)

    def close(self):
        self._do("close")

    def _do(self, what, *arguments):
        if what == self.fails:
            raise ConnectionError("no such\nhost")
        self.calls.append((what, *arguments))


@pytest.fixture
def recorder(workplace, monkeypatch):
    monkeypatch.setattr(trackers, "_KINDS", {"json": Recorder})  # any package that is surely there
    monkeypatch.setattr(Recorder, "calls", [], raising=False)
    monkeypatch.setattr(Recorder, "fails", "")
    return Recorder


def _track(names) -> None:
    with Trackers(names, "train_denoiser", SETTINGS) as running:
        for row in ROWS:
            running.log(row)


def test_a_tracker_receives_the_settings_then_every_row_with_its_epoch_then_the_end(recorder):
    _track(["json"])
    rows = [("log", {"loss": 0.5, "val_loss": 0.75}, 1), ("log", {"loss": 0.25, "val_loss": 0.5}, 2)]
    assert recorder.calls == [("start", True, "train_denoiser", FLAT), *rows, ("close",)]


def test_without_trackers_nothing_is_written(workplace):
    _track([])
    assert list(workplace.iterdir()) == []


def test_the_folder_is_the_main_checkouts_when_dvc_runs_a_copy(recorder, tmp_path, monkeypatch):
    (tmp_path / "main").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    _track(["json"])
    assert (tmp_path / "main" / "tracking").is_dir()


def test_a_tracker_that_is_not_installed_is_refused_at_once_with_its_package(workplace):
    missing = "surely_not_installed"
    remedy = r"`\.venv/bin/pip install -e '\.\[trackers\]'`"
    with pytest.raises(UserError, match=rf"compute\.trackers \({missing}\) must be an installed package; {remedy}"):
        Trackers([missing])


def test_a_tracker_that_does_not_start_is_refused_in_one_line(recorder, monkeypatch):
    monkeypatch.setattr(recorder, "fails", "start")
    with pytest.raises(UserError, match=r"compute\.trackers \(json\) did not start \(no such host\)"):
        _track(["json"])


@pytest.mark.parametrize("fails", ["log", "close"])
def test_a_tracker_that_fails_later_is_dropped_with_one_warning(recorder, monkeypatch, caplog, fails):
    monkeypatch.setattr(recorder, "fails", fails)
    with caplog.at_level(logging.WARNING):
        _track(["json"])
    assert len(caplog.messages) == 1
    assert "json failed" in caplog.messages[0]


def _train(saving: Saving) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    torch.manual_seed(3)
    network = nn.Linear(4, 1)

    def loss(step):
        value = network(torch.randn(8, 4, generator=generator(0, step))).square().mean()
        return [(1.0, value, {"loss": value})]

    optimizer = Optimizer(lr=0.1, weight_decay=0.0, warmup_steps=1, decay_fraction=0.5, clip_norm=1.0)
    used, history = fit(network, loss, TrainConfig("test", 2, 3, optimizer, saving))
    return {name: tensor.clone() for name, tensor in used.state_dict().items()}, history


class Meddler(Recorder):
    """Draws from torch's generator at every call."""

    def _do(self, what, *arguments):
        torch.randn(7)
        super()._do(what, *arguments)


def test_the_loop_logs_every_epoch_and_trains_as_it_does_without_trackers(recorder, monkeypatch):
    alone, history = _train(Saving(ResumeFile("alone", {}, ()), 1e9))
    monkeypatch.setattr(trackers, "_KINDS", {"json": Meddler})
    tracked, same = _train(Saving(ResumeFile("tracked", {}, ()), 1e9, Trackers(["json"], "tracked", {})))
    assert same == history
    assert all(torch.equal(tracked[name], alone[name]) for name in alone)
    assert [call[1:] for call in recorder.calls if call[0] == "log"] == [
        ({"loss": row["loss"]}, row["epoch"]) for row in history
    ]


def _installed(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is optional")


real = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend


@_installed("tensorboard")
@real
def test_tensorboard_reads_what_was_written(workplace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _track(["tensorboard"])
    (run,) = (workplace / "tracking" / "tensorboard").iterdir()
    events = EventAccumulator(str(run)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("val_loss")] == [(1, 0.75), (2, 0.5)]


@_installed("wandb")
@real
def test_wandb_keeps_the_run_offline(workplace, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    with Trackers(["wandb"], "train_denoiser", SETTINGS) as running:
        for row in ROWS:
            running.log(row)
        logged = {
            "config": dict(wandb.run.config),
            "last": wandb.run.summary["loss"],
            "step": wandb.run.summary["_step"],
            "name": wandb.run.name,
        }
    assert logged == {"config": FLAT, "last": 0.25, "step": 2, "name": "train_denoiser"}
    assert list((workplace / "tracking" / "wandb").glob("offline-run-*/run-*.wandb"))


@_installed("mlflow")
@_installed("sqlalchemy")
@real
def test_mlflow_reads_what_was_written(workplace):
    from mlflow import MlflowClient

    _track(["mlflow"])
    _track(["mlflow"])
    client = MlflowClient(f"sqlite:///{workplace / 'tracking' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("latentline").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert runs[0].data.params["optimizer.lr"] == "0.004"
    assert [(point.step, point.value) for point in client.get_metric_history(runs[0].info.run_id, "loss")] == [
        (1, 0.5),
        (2, 0.25),
    ]


@_installed("dvclive")
@real
def test_dvclive_writes_tables_and_touches_nothing_else(workplace):
    _track(["dvclive"])
    folder = workplace / "tracking" / "dvclive" / "train_denoiser"
    table = (folder / "plots" / "metrics" / "loss.tsv").read_text().split()
    assert table == ["step", "loss", "1", "0.5", "2", "0.25"]
    assert json.loads((folder / "metrics.json").read_text())["val_loss"] == 0.5
    assert [path.name for path in workplace.iterdir()] == ["tracking"]
