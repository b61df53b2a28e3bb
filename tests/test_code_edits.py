"""Editing code that draws or scores costs no training step; editing code that computes costs all of them."""

import re
from pathlib import Path

import pytest

from latentline.core.arrays import load_arrays
from support.checkout import Checkout

DRAWS = ("src/latentline/figures/plots.py", "stages/{stage}/report.py")
COMPUTES = [
    ("train_denoiser", "src/latentline/diffusion/objective.py"),
    ("train_autoencoder", "src/latentline/autoencoders/vae.py"),
]
MORE_COMPUTES = [  # as the above in all but the file
    ("train_denoiser", "src/latentline/nn/unet.py"),
    ("train_feature_extractor", "src/latentline/feature_extractors/classifier.py"),
]


def _edit(checkout: Checkout, path: str) -> None:
    """Change the bytes of a source file, and nothing of what it does."""
    file = checkout.folder / path
    file.write_text(file.read_text() + "\n# edited\n")


def _checkpoints(checkout: Checkout, stage: str) -> dict[str, str]:
    """Return the md5 of each checkpoint of ``stage`` in dvc.lock."""
    return {out["path"]: out["md5"] for out in checkout.lock()[stage]["outs"] if out["path"].startswith("checkpoints/")}


def _steps(checkout: Checkout, stage: str) -> int:
    """Return the number of steps of the stage's ended training."""
    (path,) = (checkout.folder / ".state" / stage).glob("*/ended.safetensors")
    return load_arrays(path, stage)[1]["state"]["total_steps"]


@pytest.mark.parametrize(
    "stage",
    [
        "train_denoiser",
        pytest.param("train_autoencoder", marks=pytest.mark.slow),
        pytest.param("train_feature_extractor", marks=pytest.mark.slow),
    ],
)
def test_editing_figures_and_the_report_costs_no_step_and_gives_the_same_checkpoint(copy, stage):
    """Resume an ended training. Tests of each stage hold that what trains imports neither figures nor the report."""
    before = _checkpoints(copy, stage)
    for path in DRAWS:
        _edit(copy, path.format(stage=stage))
    log = copy.log_of(stage)
    assert re.findall(r"resumed (\w+) at step (\d+)", log) == [(stage, str(_steps(copy, stage)))]
    assert _checkpoints(copy, stage) == before


@pytest.mark.parametrize(
    ("stage", "path"),
    [*COMPUTES, *(pytest.param(*more, marks=pytest.mark.slow) for more in MORE_COMPUTES)],
    ids=[Path(path).stem for _, path in [*COMPUTES, *MORE_COMPUTES]],
)
def test_editing_the_loss_or_the_network_costs_all_steps_and_the_log_names_the_file(copy, stage, path):
    """Train anew: objective.py and vae.py guard, with a stage each, what the other two files' cases run."""
    before = _checkpoints(copy, stage)
    _edit(copy, path)
    log = copy.log_of(stage)
    assert "resumed" not in log
    (line,) = (line for line in log.splitlines() if ": starts anew: " in line)
    assert re.fullmatch(rf"{stage}: starts anew: {re.escape(path)} changed since state \w+", line)
    assert _checkpoints(copy, stage) == before  # the same bytes, computed again
