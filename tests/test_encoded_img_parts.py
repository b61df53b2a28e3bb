"""Each part of encoded_img is an out of its own, so a stage needs and depends on no more of it than it reads."""

import json
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from support.checkout import CHECK, Checkout

NEEDED_TO_SAMPLE = (
    "checkpoints/autoencoder",
    "checkpoints/denoiser",
    "encoded_img/stats.json",
    "encoded_img/labels.safetensors",
    "encoded_img/text",
)


@pytest.fixture
def clone(finished: Checkout, tmp_path: Path) -> Checkout:
    """Return a clone of ``finished`` without any out; ``finished`` is its DVC remote."""
    finished.run("git", "clone", "--quiet", str(finished.folder), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("remote", "add", "--local", "--default", "finished", str(finished.folder / ".dvc" / "cache"))
    return clone


def _ran(output: str) -> set[str]:
    return set(re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE))


def test_exporting_latents_retrains_nothing(copy):
    copy.change(**{"latents.export": "npz"})
    assert copy.repro() == {CHECK, "encode_and_cache_latents"}
    assert (copy.folder / "encoded_img" / "export" / "train.npz").is_file()


def test_an_experiment_draws_samples_with_only_the_files_that_sampling_reads(clone):
    clone.dvc("pull", *NEEDED_TO_SAMPLE)
    output = clone.dvc("exp", "run", "--single-item", "--set-param", "sample.steps=3", "sample")
    assert _ran(output) == {"sample"}
    assert clone.metrics("sample")["network_evaluations"] == 3 * 2 * 2  # steps, Heun, guidance
    assert not (clone.folder / "encoded_img" / "latents").exists()
    assert not (clone.folder / "data" / "prepared").exists()


def _pretend_other_machine(clone: Checkout) -> None:
    """Commit a dvc.lock in which encoded_img has bytes that no cache holds, as if another machine had written it."""
    yaml, path = YAML(), clone.folder / "dvc.lock"
    lock = yaml.load(path)
    for stage in lock["stages"].values():
        for entry in [*stage["deps"], *stage.get("outs", [])]:
            if entry["path"].startswith("encoded_img"):
                digest, dot, suffix = entry["md5"].partition(".")
                entry["md5"] = digest[::-1] + dot + suffix
    yaml.dump(lock, path)
    clone.commit()


def _copy_run_cache(source: Checkout, target: Checkout, stage: str) -> None:
    """Copy the runs of one stage from one checkout's run cache to another's, with the objects of their outs."""
    theirs, ours = (checkout.folder / ".dvc" / "cache" for checkout in (source, target))

    def copy_object(md5: str) -> None:
        path = Path("files", "md5", md5[:2], md5[2:])
        (ours / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(theirs / path, ours / path)
        if md5.endswith(".dir"):
            for entry in json.loads((theirs / path).read_text()):
                copy_object(entry["md5"])

    for path in theirs.glob("runs/*/*/*"):
        run = YAML(typ="safe", pure=True).load(path)
        if run["cmd"] == f"python -m stages.{stage}":
            (ours / path.relative_to(theirs)).parent.mkdir(parents=True)
            shutil.copy(path, ours / path.relative_to(theirs))
            for out in run["outs"]:
                copy_object(out["md5"])


@pytest.mark.slow  # the stages before `sample` run anew: half a minute
def test_with_a_lock_of_other_bytes_and_sample_in_the_run_cache_an_experiment_works_the_first_time(finished, clone):
    _pretend_other_machine(clone)
    _copy_run_cache(finished, clone, "sample")  # the cache is empty for the rest
    output = clone.dvc("exp", "run", "sample")
    assert _ran(output) == {CHECK, "download", "train_autoencoder", "encode_and_cache_latents", "train_denoiser"}
    assert "Stage 'sample' is cached - skipping run" in output
    assert clone.metrics("sample") == finished.metrics("sample")
    assert clone.lock()["sample"] == finished.lock()["sample"]
