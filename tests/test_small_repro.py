"""The whole pipeline, tiny, run by DVC in a copy of this repository, leaves what it promises and runs nothing twice."""

import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.files import sha256_file
from latentline.core.stage import run_stage
from latentline.data.store import read_card
from latentline.latents.cache import read_stats
from latentline.runtime.checkpoint import load_checkpoint
from support.checkout import CHECK, EVERY_STAGE


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_every_output_is_there_and_none_is_empty(finished):
    stages = YAML(typ="safe").load(finished.folder / "dvc.yaml")["stages"]
    for stage in stages.values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            path = finished.folder / (next(iter(entry)) if isinstance(entry, dict) else entry)
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            assert files, path
            assert all(file.stat().st_size > 0 for file in files), path


def test_a_finished_pipeline_is_up_to_date_and_git_is_clean(finished):
    assert json.loads(finished.dvc("status", "--json")) == {}
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_finished_pipeline_leaves_no_running_state_and_nothing_half(finished):
    assert not list((finished.folder / ".state").rglob("state.safetensors"))
    assert not list(finished.folder.rglob(".partial-*"))


def test_outs_are_few_files(finished):
    for out in ("data/prepared", "encoded_img", "data/generated", "checkpoints"):
        assert len(_files(finished.folder / out)) < 10


def test_each_checkpoint_holds_the_digests_of_what_it_was_trained_on(finished):
    def load(kind: str):
        path = finished.folder / "checkpoints" / kind / f"{kind}.safetensors"
        return load_checkpoint(path, kind=kind, made_by=f"train_{kind}")

    autoencoder, denoiser, extractor = load("autoencoder"), load("denoiser"), load("feature_extractor")
    card, stats = read_card(finished.folder / "data" / "prepared"), read_stats(finished.folder)
    assert denoiser.trained_on["autoencoder"] == stats.autoencoder == autoencoder.sha256
    assert denoiser.trained_on["latents"] == sha256_file(finished.folder / "encoded_img" / "stats.json")
    assert autoencoder.trained_on == extractor.trained_on == card.sha256
    _, probes = load_arrays(
        finished.folder / "checkpoints" / "latent_classifiers" / "latent_classifiers.safetensors", ""
    )
    assert probes["latents"] == denoiser.trained_on["latents"]


def test_outs_hold_no_path_and_no_thread_count(finished, root):
    for folder in ("data/prepared", "encoded_img", "data/generated", "checkpoints"):
        for path in (finished.folder / folder).rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for trace in (str(finished.folder), str(root), os.environ["PATH"], "threads"):
                assert trace.encode() not in content, (path, trace)


def test_samples_are_images_of_the_classes_in_turn(finished):
    samples, _ = load_arrays(finished.folder / "data" / "generated" / "samples-00000.safetensors", "sample")
    assert samples["images"].shape == (40, 1, 8, 8)
    assert str(samples["images"].dtype) == "torch.uint8"
    assert samples["labels"].tolist() == list(range(10)) * 4


def test_metrics_have_the_names_that_outside_tools_rely_on(finished):
    metrics = finished.metrics
    assert metrics("autoencoder").keys() >= {"mse", "psnr", "ssim", "kl", "test_loss"}
    assert metrics("denoiser").keys() >= {
        "train_loss",
        "val_loss",
        "test_loss",
        "test_loss_by_time",
        "ema_decay",
        "val_loss_by_ema_decay",
    }
    assert metrics("sample") == {"count": 40, "network_evaluations": 2 * 2 * 2}  # steps, Heun, guidance
    scores = {
        "fd",
        "kd",
        "precision",
        "recall",
        "density",
        "coverage",
        "class_accuracy",
        "nearest_train_distance",
        "fd_reconstruction",
        "judge",
    }
    assert metrics("evaluate").keys() >= scores
    assert metrics("latent_classifiers").keys() >= {"accuracy", "auroc", "f1", "by_class"}
    assert 0 <= metrics("manipulate")["flip_rate_random"] <= 1
    assert 0 <= metrics("manipulate")["flip_rate"] <= 1
    assert metrics("feature_extractor")["accuracy"] > metrics("feature_extractor")["accuracy_of_the_commonest_class"]
    assert metrics("timing").keys() == EVERY_STAGE


@pytest.mark.slow
def test_from_scratch_every_byte_is_the_same_again(finished, copy):
    """Run every stage again, for a minute.

    test_code_edits computes checkpoints again to the same bytes. stages/test_killed_stages does so with latents,
    samples, edits and scores.
    """
    places = ("data/prepared", "encoded_img", "data/generated", "checkpoints", "fig")
    before = {place: _files(finished.folder / place) for place in places}
    shutil.rmtree(copy.folder / ".state", ignore_errors=True)
    assert copy.repro("--force", "--no-run-cache") == EVERY_STAGE
    assert (copy.folder / "dvc.lock").read_text() == (finished.folder / "dvc.lock").read_text()
    assert {place: _files(copy.folder / place) for place in places} == before
    assert set(copy.run("git", "status", "--porcelain").stdout.split()) <= {"M", "metrics/timing.json"}


def test_where_it_runs_re_runs_nothing_but_the_check(copy):
    copy.change(
        **{"compute.save_every_seconds": 5.0, "compute.workers": 0, "compute.threads": 2, "compute.device": "cpu"}
    )
    assert copy.repro() == {CHECK}


def test_an_experiment_with_another_sampling_draws_and_scores_anew_and_nothing_else(copy):
    output = copy.dvc("exp", "run", "--set-param", "sample.steps=3")
    assert set(re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)) == {CHECK, "sample", "evaluate"}
    assert copy.metrics("sample")["network_evaluations"] == 3 * 2 * 2


def test_a_longer_training_of_the_denoiser_changes_its_samples_and_nothing_before_it(copy):
    copy.change(**{"denoiser.epochs": 3})
    assert copy.repro("train_denoiser") == {CHECK, "train_denoiser"}
    assert json.loads(copy.dvc("status", "--json")).keys() == {"sample", "manipulate", "evaluate"}
    assert len((copy.folder / "fig" / "denoiser" / "loss.csv").read_text().splitlines()) == 1 + 3


def test_a_stage_runs_its_own_checkouts_source_whatever_is_installed_or_on_the_path(copy, tmp_path):
    foreign = tmp_path / "foreign" / "latentline"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign one')")
    package = copy.folder / "src" / "latentline" / "__init__.py"
    package.write_text(package.read_text() + "\nprint('this checkout')\n")
    done = copy.run(sys.executable, "-m", "stages.encode_and_cache_latents", PYTHONPATH=str(foreign.parent))
    assert done.stdout.startswith("this checkout\n")


@pytest.fixture
def refusal(copy, machine, monkeypatch, capsys) -> Callable[[str], str]:
    """Return a function that runs a stage, which must end with status 2, and returns the one line that it prints.

    The stage runs in this process: to start one of its own takes three seconds.
    """
    monkeypatch.chdir(copy.folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run(stage: str) -> str:
        with pytest.raises(SystemExit) as ended:
            run_stage(stage, importlib.import_module(f"stages.{stage}.__main__").main)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.mark.parametrize("stage", ["train_denoiser", "sample", "evaluate", "manipulate"])
def test_a_stage_refuses_another_autoencoder_than_its_latents_were_made_by(copy, refusal, stage):
    path = copy.folder / "checkpoints" / "autoencoder" / "autoencoder.safetensors"
    tensors, meta = load_arrays(path, "train_autoencoder")
    changed = {name: tensor + 1 for name, tensor in tensors.items()}
    path.unlink()
    save_arrays(path, changed, meta)
    line = refusal(stage)
    assert re.match(r"error: encoded_img .*autoencoder", line)
    assert sha256_file(path)[:12] in line


def test_a_bad_setting_stops_every_stage_at_once_in_one_line_that_names_it(copy, refusal):
    copy.change(**{"evaluate.neighbours": 0})
    (of_process,) = copy.run(sys.executable, "-m", "stages.download", expect=2).stderr.splitlines()
    for line in (of_process, *map(refusal, ("download", "train_autoencoder"))):
        assert line.startswith("error: params.yaml: evaluate.neighbours (0) must be an integer of at least 1; ")
    assert (copy.folder / "data" / "prepared" / "card.json").is_file()
