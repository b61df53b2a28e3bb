"""Stages ``train_denoiser`` and ``sample`` with average velocities, on the pixels of a few digits."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError
from latentline.core.paths import DENOISER
from latentline.runtime.checkpoint import load_checkpoint
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.sample import __main__ as sample
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_denoiser import train
from support.training_run import save_after_each_step

pytestmark = pytest.mark.usefixtures("machine")

PARAMS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.name": "identity",
    "denoiser.epochs": 1,
    "denoiser.channels": [16],
    "denoiser.attention_levels": [0],
    "denoiser.patch_size": 2,
    "denoiser.preview.every_epochs": 0,
    "denoiser.optimizer.batch_size": 20,
    "denoiser.optimizer.warmup_steps": 2,
    "sample.count": 20,
    "sample.steps": 1,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
}
MEAN_FLOW = {"denoiser.objective": "mean_flow", "denoiser.init_from": "flow"}
Run = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """Return a folder with encoded digits, and in ``flow`` a denoiser of velocities."""
    folder = tmp_path_factory.mktemp("mean_flow")
    write_params(folder, PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, train_autoencoder, encode_and_cache_latents, train_denoiser):
            stage.main()
        shutil.copytree("checkpoints/denoiser", "flow")
    return folder


@pytest.fixture
def run(folder: Path, write_params, monkeypatch, tmp_path) -> Run:
    """Train with changed settings; return the weights in the checkpoint."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def train_with(**changes: object) -> dict[str, Tensor]:
        write_params(folder, {**PARAMS, **MEAN_FLOW, **changes})
        train_denoiser.main()
        return load_checkpoint(DENOISER, kind="denoiser", made_by="").tensors

    return train_with


def test_one_step_draws_a_sample_from_averages_that_began_as_velocities(run, folder, write_params):
    tensors = run()
    started = load_checkpoint(Path("flow/denoiser.safetensors"), kind="denoiser", made_by="").tensors
    assert {name for name in tensors if name not in started} == {
        f"embedding.interval.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
    write_params(folder, {**PARAMS, **MEAN_FLOW, "sample.sampler": "mean_flow"})
    sample.main()
    assert json.loads(Path("metrics/sample.json").read_text()) == {"count": 20, "network_evaluations": 1}
    write_params(folder, {**PARAMS, **MEAN_FLOW, "sample.sampler": "mean_flow", "sample.guidance_start": 0.3})
    with pytest.raises(UserError, match=r"sample.guidance_start \(0.3\) must be 0.15"):
        sample.main()


@pytest.mark.slow
def test_micro_batches_and_checkpointed_activations_give_the_same_weights(run):
    whole = run()
    for changes in ({"denoiser.optimizer.accumulate": 3}, {"compute.gradient_checkpointing": True}):
        again = run(**changes)
        for name, tensor in whole.items():
            torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.slow
def test_a_training_killed_at_a_step_ends_with_the_same_bytes(run, monkeypatch, tmp_path, caplog):
    whole, loss = run(), train.mean_flow_loss
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    calls: list[Any] = []

    def killed(*args: Any) -> Tensor:
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedRunError
        return loss(*args)

    monkeypatch.setattr(train, "mean_flow_loss", killed)
    save_after_each_step(monkeypatch)
    with pytest.raises(InterruptedRunError):
        run()
    with caplog.at_level(logging.INFO):
        again = run()
    assert "resumed train_denoiser at step 1" in caplog.text
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_averages_do_not_start_a_training_of_velocities(run, folder):
    run()
    shutil.copytree("checkpoints/denoiser", "averages", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"denoiser.objective \(mean_flow, here flow_matching\)"):
        run(**{"denoiser.objective": "flow_matching", "denoiser.init_from": "averages"})
    run(**{"denoiser.init_from": "averages"})
