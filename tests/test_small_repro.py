"""The whole pipeline, tiny, run by DVC in a copy of this repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from knobs import set_knobs
from ruamel.yaml import YAML

from latentline.common.arrays import load_arrays, save_arrays
from latentline.common.files import sha256_file
from latentline.data.store import read_card
from latentline.latents.cache import read_stats
from latentline.runtime.checkpoint import load_checkpoint

TINY = {
    "data.name": "digits",
    "data.limit": 300,
    "autoencoder.epochs": 4,
    "autoencoder.optimizer.batch_size": 32,
    "autoencoder.optimizer.warmup_steps": 5,
    "autoencoder.latent_channels": 2,
    "autoencoder.encoder_channels": [8, 16],
    "autoencoder.encoder_blocks": [1, 1],
    "autoencoder.decoder_channels": [8, 16],
    "autoencoder.decoder_blocks": [1, 1],
    "denoiser.epochs": 2,
    "denoiser.optimizer.batch_size": 32,
    "denoiser.optimizer.warmup_steps": 5,
    "denoiser.channels": [16, 16],
    "denoiser.attention_levels": [1],
    "denoiser.preview.every_epochs": 1,
    "denoiser.preview.width": 2,
    "denoiser.preview.steps": 2,
    "sample.sampler": "heun",
    "sample.steps": 2,
    "sample.guidance_scale": 1.9,
    "sample.guidance_start": 0.0,
    "sample.guidance_end": 1.0,
    "sample.count": 40,
    "sample.batch_size": 16,
    "feature_extractor.epochs": 6,
    "feature_extractor.optimizer.batch_size": 32,
    "feature_extractor.optimizer.warmup_steps": 5,
    "feature_extractor.channels": 8,
    "feature_extractor.features": 16,
    "latent_classifiers.max_iterations": 20,
    "manipulate.strengths": [-1.0, 0.0, 1.0],
    "manipulate.count": 5,
    "evaluate.neighbours": 3,
    "evaluate.pair_count": 30,
    "compute.threads": 1,
}
NOT_COPIED = ("tests/", "fig/", "metrics/", "dvc.lock")  # results of the real run, if it is in git, must not be taken for ours
EVERY_STAGE = {
    "download",
    "train_feature_extractor",
    "train_autoencoder",
    "encode_and_cache_latents",
    "train_denoiser",
    "sample",
    "train_latent_classifiers",
    "manipulate",
    "evaluate",
}


class Checkout:
    """A repository and the means to run commands in it, deaf to this machine's settings of git and DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, **variables: str) -> dict[str, str]:
        identity = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        quiet = {
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "DVC_SITE_CACHE_DIR": f"{self.folder}-site",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "PYTHON"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **identity, **quiet, "PATH": path, **variables}

    def run(self, *command: str, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment(**variables)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=1800)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def repro(self, *arguments: str) -> set[str]:
        """The stages that ran."""
        return set(re.findall(r"^Running stage '(\w+)'", self.dvc("repro", *arguments), re.MULTILINE))

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def change(self, **knobs: object) -> None:
        yaml = YAML()
        yaml.width = 4096
        content = yaml.load(self.folder / "params.yaml")
        set_knobs(content, knobs)
        yaml.dump(content, self.folder / "params.yaml")

    def copy(self, folder: Path) -> "Checkout":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)


def fresh_checkout(root: Path, folder: Path) -> Checkout:
    """What git would hold of this repository, in a repository of its own, before any run."""
    checkout = Checkout(folder)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (root / name).is_file() and not name.startswith(NOT_COPIED):
            (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, checkout.folder / name)
    checkout.run("git", "init", "--quiet")
    return checkout


def finished_checkout(root: Path, folder: Path) -> Checkout:
    """A copy of the repository in which the tiny pipeline has run."""
    checkout = fresh_checkout(root, folder)
    checkout.change(**TINY)
    checkout.commit()
    assert checkout.repro() == EVERY_STAGE
    checkout.commit()
    return checkout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Checkout:
    """Tests that change anything take a copy of it."""
    return finished_checkout(root, tmp_path_factory.mktemp("repro") / "checkout")


@pytest.fixture
def copy(finished: Checkout, tmp_path: Path) -> Checkout:
    return finished.copy(tmp_path / "checkout")


def _files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


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


def test_each_checkpoint_knows_what_it_was_trained_on(finished):
    def load(kind: str):
        path = finished.folder / "checkpoints" / kind / f"{kind}.safetensors"
        return load_checkpoint(path, kind=kind, made_by=f"train_{kind}")

    autoencoder, denoiser, judge = load("autoencoder"), load("denoiser"), load("feature_extractor")
    card, stats = read_card(finished.folder / "data" / "prepared"), read_stats(finished.folder / "encoded_img" / "stats.json")
    assert denoiser.trained_on["autoencoder"] == stats.autoencoder == autoencoder.sha256
    assert denoiser.trained_on["latents"] == sha256_file(finished.folder / "encoded_img" / "stats.json")
    assert autoencoder.trained_on == judge.trained_on == card.sha256
    _, probes = load_arrays(finished.folder / "checkpoints" / "latent_classifiers" / "latent_classifiers.safetensors", "")
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
    def metrics(name: str) -> dict[str, object]:
        return json.loads((finished.folder / "metrics" / f"{name}.json").read_text())

    assert metrics("autoencoder").keys() >= {"mse", "psnr", "ssim", "kl", "test_loss"}
    assert metrics("denoiser").keys() >= {"train_loss", "val_loss", "test_loss", "test_loss_by_time", "ema_decay", "val_loss_by_ema_decay"}
    assert metrics("sample") == {"count": 40, "network_evaluations": 2 * 2 * 2}  # steps, Heun, guidance
    scores = {"fd", "kd", "precision", "recall", "density", "coverage", "class_accuracy", "nearest_train_distance", "fd_reconstruction", "judge"}
    assert metrics("evaluate").keys() >= scores
    assert metrics("latent_classifiers").keys() >= {"accuracy", "auroc", "f1", "by_class"}
    assert 0 <= metrics("manipulate")["flip_rate_random"] <= 1
    assert 0 <= metrics("manipulate")["flip_rate"] <= 1
    assert metrics("feature_extractor")["accuracy"] > metrics("feature_extractor")["accuracy_of_the_commonest_class"]
    assert metrics("timing").keys() == EVERY_STAGE


def test_from_scratch_every_byte_is_the_same_again(finished, copy):
    places = ("data/prepared", "encoded_img", "data/generated", "checkpoints", "fig")
    before = {place: _files(finished.folder / place) for place in places}
    shutil.rmtree(copy.folder / ".state", ignore_errors=True)
    assert copy.repro("--force", "--no-run-cache") == EVERY_STAGE
    assert (copy.folder / "dvc.lock").read_text() == (finished.folder / "dvc.lock").read_text()
    assert {place: _files(copy.folder / place) for place in places} == before
    assert set(copy.run("git", "status", "--porcelain").stdout.split()) <= {"M", "metrics/timing.json"}


def test_where_it_runs_re_runs_nothing(copy):
    copy.change(**{"compute.save_every_seconds": 5.0, "compute.workers": 0, "compute.threads": 2, "compute.device": "cpu"})
    assert copy.repro() == set()


def test_an_experiment_with_another_sampling_draws_and_scores_anew_and_nothing_else(copy):
    output = copy.dvc("exp", "run", "--set-param", "sample.steps=3")
    assert set(re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)) == {"sample", "evaluate"}
    assert json.loads((copy.folder / "metrics" / "sample.json").read_text())["network_evaluations"] == 3 * 2 * 2


def test_a_longer_training_of_the_denoiser_changes_its_samples_and_nothing_before_it(copy):
    copy.change(**{"denoiser.epochs": 3})
    assert copy.repro() == {"train_denoiser", "sample", "manipulate", "evaluate"}
    assert len((copy.folder / "fig" / "denoiser" / "loss.csv").read_text().splitlines()) == 1 + 3


def test_a_stage_runs_its_own_checkouts_source_whatever_is_installed_or_on_the_path(copy, tmp_path):
    foreign = tmp_path / "foreign" / "latentline"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign one')")
    package = copy.folder / "src" / "latentline" / "__init__.py"
    package.write_text(package.read_text() + "\nprint('this checkout')\n")
    done = copy.run(sys.executable, "stages/encode_and_cache_latents.py", PYTHONPATH=str(foreign.parent))
    assert done.stdout.startswith("this checkout\n")


def test_a_stage_refuses_another_autoencoder_than_its_latents_were_made_by(copy):
    path = copy.folder / "checkpoints" / "autoencoder" / "autoencoder.safetensors"
    tensors, meta = load_arrays(path, "train_autoencoder")
    changed = {name: tensor + 1 for name, tensor in tensors.items()}
    path.unlink()
    save_arrays(path, changed, meta)
    for stage in ("train_denoiser", "sample", "evaluate", "manipulate"):
        done = copy.run(sys.executable, f"stages/{stage}.py", expect=2)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: encoded_img was made by autoencoder")
        assert sha256_file(path)[:12] in line


def test_a_bad_knob_stops_every_stage_at_once_in_one_line_that_names_it(copy):
    copy.change(**{"evaluate.neighbours": 0})
    for stage in ("download", "train_autoencoder"):
        (line,) = copy.run(sys.executable, f"stages/{stage}.py", expect=2).stderr.splitlines()
        assert line.startswith("error: params.yaml: evaluate.neighbours (0) must be an integer of at least 1; ")
    assert (copy.folder / "data" / "prepared" / "card.json").is_file()
