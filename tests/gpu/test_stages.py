"""Whole runs on a GPU: the scores of the CPU, the same bytes twice, compiled, and in every precision."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from latentline.core.nested import by_dotted_name
from support.checkout import STAGES
from support.small_kinds import KINDS, SmallRun
from support.trainings import DISCRIMINATOR

pytestmark = pytest.mark.usefixtures("gpu")

RESULTS = (".state", "checkpoints", "encoded_img", "fig", "metrics", "prepared", "generated", "edited")
RELATIVE, ABSOLUTE = 0.05, 0.06  # of a score; one of few samples is another one by rounding
OPTIMIZERS = ("autoencoder.optimizer", "denoiser.optimizer", "feature_extractor.optimizer")


@pytest.fixture
def on_gpu(tmp_path: Path) -> Callable[..., SmallRun]:
    """Return a function that runs every stage of a run again on the GPU, in a folder of its own."""
    number = iter(range(9))

    def run_again(run: SmallRun, **params: object) -> SmallRun:
        folder = tmp_path / str(next(number))
        shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns(*RESULTS))
        again = replace(run, folder=folder)
        again.run(*STAGES, **{"compute.device": "cuda", **params})
        return again

    return run_again


@pytest.fixture(params=[*KINDS, "captioned"])
def on_cpu(request: pytest.FixtureRequest, small_runs: Callable[[str], SmallRun]) -> SmallRun:
    """Return a run of each kind, which the CPU made."""
    captioned = request.param == "captioned"
    return request.getfixturevalue("captioned") if captioned else small_runs(request.param)


def scores(run: SmallRun) -> dict[str, float]:
    """Return every number of the metrics but those of the timing."""

    files = [path for path in (run.folder / "metrics").glob("*.json") if path.stem != "timing"]
    found = by_dotted_name({path.stem: json.loads(path.read_text()) for path in files})
    return {name: value for name, value in found.items() if type(value) in (int, float)}


def assert_agree(one: SmallRun, other: SmallRun, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> None:
    """Compare all scores of two runs."""
    first, second = scores(one), scores(other)
    assert first.keys() == second.keys()
    assert len(first) > 5
    different = {
        name: (first[name], second[name])
        for name in first
        if not math.isclose(first[name], second[name], rel_tol=relative, abs_tol=absolute)
    }
    assert different == {}


def tensors(run: SmallRun) -> dict[str, bytes]:
    """Return the bytes of every file of tensors of a run."""
    files = [path for path in run.folder.rglob("*.safetensors") if ".state" not in path.parts]
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in files}


def test_every_kind_of_run_scores_as_on_the_cpu_and_repeats_its_bytes(on_cpu, on_gpu):
    first = on_gpu(on_cpu)
    assert_agree(first, on_cpu)
    found, again = tensors(first), tensors(on_gpu(on_cpu))
    assert len(found) > 5
    assert [name for name in found if found[name] != again[name]] == []


@pytest.mark.parametrize("stage", ["train_feature_extractor", "train_autoencoder", "train_denoiser", "sample"])
@pytest.mark.parametrize("on_cpu", ["everything", "vae_dit", "diffae_mlp", "captioned"], indirect=True)
def test_a_stage_with_compiled_networks_scores_as_it_does_without(on_cpu, tmp_path, stage):
    shutil.copytree(on_cpu.folder, tmp_path / "run", ignore=shutil.ignore_patterns(".state"))
    run = replace(on_cpu, folder=tmp_path / "run")
    run.run(stage, **{"compute.device": "cuda", "compute.compile": True})
    assert_agree(run, on_cpu)


@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
def test_a_discriminator_trains(small_runs, on_gpu, compiled):
    run = small_runs("everything")
    expected = on_gpu(run, **{"compute.device": "cpu", **DISCRIMINATOR})
    assert_agree(on_gpu(run, **{"compute.compile": compiled, **DISCRIMINATOR}), expected)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["everything", "vae_dit"])
def test_every_precision_scores_about_as_float32(small_runs, on_gpu, kind, precision):
    params: dict[str, object] = {f"{optimizer}.precision": precision for optimizer in OPTIMIZERS}
    assert_agree(on_gpu(small_runs(kind), **params, **{"sample.precision": precision}), small_runs(kind), 0.25, 0.3)


def test_the_fastest_algorithms_score_as_the_deterministic_ones(small_runs, on_gpu):
    run = small_runs("vae_dit")
    assert_agree(on_gpu(run, **{"compute.deterministic": False}), run)
