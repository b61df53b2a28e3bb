"""Every stage that computes with a network runs on another device, mixes no devices, and draws nothing there."""

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from latentline.runtime import start
from latentline.training.state import TrainedModule
from latentline.training.step_log import StepLog
from stages.train_autoencoder.perceptual import PerceptualDistance
from stages.train_latent_classifiers import __main__ as train_latent_classifiers
from support.checkout import STAGES
from support.simulated_device import counting, simulated_device, simulated_pinning
from support.stage_runs import DIGITS, run_stages, use_small_chunks
from support.trainings import (
    DISCRIMINATOR,
    ONE_EPOCH,
    VARIANCE_PRESERVING,
    train_autoencoder,
    train_denoiser,
    train_extractor,
)

pytestmark = pytest.mark.usefixtures("machine")

NOT_DETERMINISTIC = {  # on CUDA, for which torch raises while compute.deterministic is true
    *(
        "adaptive_avg_pool2d_backward",
        "avg_pool3d_backward",
        "upsample_bicubic2d_backward",
        "upsample_linear1d_backward",
    ),
    *("reflection_pad1d_backward", "reflection_pad3d_backward", "nll_loss2d_forward", "nll_loss2d_backward"),
    *("cumsum", "histc", "kthvalue", "grid_sampler_2d_backward", "put_", "max_unpool2d", "_embedding_bag_backward"),
}


@pytest.fixture(autouse=True)
def pinning() -> Iterator[None]:
    with simulated_pinning():
        yield


@pytest.fixture
def prepared(digits_run: Path, tmp_path: Path, write_params, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that enters a folder with the data of ``digits_run`` and other values of some settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(digits_run, tmp_path, ignore=shutil.ignore_patterns(".state"), dirs_exist_ok=True)
    return lambda **params: write_params(tmp_path, {**DIGITS, **params})


@pytest.mark.parametrize(
    ("train", "params"),
    [
        (train_extractor, {}),
        (train_autoencoder, DISCRIMINATOR),
        (train_denoiser, {}),
        (train_denoiser, {"denoiser.name": "dit", "denoiser.width": 16, "denoiser.depth": 1, "denoiser.heads": 2}),
    ],
    ids=["feature_extractor", "autoencoder_and_discriminator", "unet", "dit"],
)
def test_a_network_trains_on_another_device(prepared, train, params):
    prepared(**ONE_EPOCH, **params)
    with counting() as counts:
        train(simulated_device())
    assert counts.copies["to_device"] > 0
    assert counts.operations["aten::convolution_backward"] + counts.operations["aten::mm"] > 0
    assert not {name.removeprefix("aten::") for name in counts.operations} & NOT_DETERMINISTIC


def test_the_perceptual_distance_trains_on_another_device_as_on_the_cpu():
    device, distance = simulated_device(), PerceptualDistance()
    x, y = torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32)
    gradients = []
    for place in (torch.device("cpu"), device):
        reconstruction = x.clone().to(place).requires_grad_()
        with counting() as counts:
            distance.to(place)(reconstruction, y.to(place)).sum().backward()
        gradients.append(reconstruction.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    assert not {name.removeprefix("aten::") for name in counts.operations} & NOT_DETERMINISTIC


@pytest.mark.parametrize(
    ("train", "params", "copies"),
    [
        (train_extractor, {}, 3),  # rows, labels, dropout
        (train_autoencoder, DISCRIMINATOR, 2),  # rows, noise
        (train_denoiser, {"denoiser.optimizer.accumulate": 2}, 5),  # rows, condition, time, noise, dropped
        (train_denoiser, VARIANCE_PRESERVING, 5),
    ],
    ids=["feature_extractor", "autoencoder_and_discriminator", "denoiser", "denoiser_vp"],
)
def test_a_step_waits_for_nothing_and_copies_its_inputs_alone(prepared, monkeypatch, train, params, copies):
    optimizers = [f"{section}.optimizer" for section in ("autoencoder", "denoiser", "feature_extractor")]
    batches = {f"{optimizer}.batch_size": 16 for optimizer in optimizers}
    no_save = {f"{optimizer}.schedule": "cosine" for optimizer in optimizers}  # no longer run may continue
    prepared(**ONE_EPOCH, **batches, **no_save, **params)
    monkeypatch.setattr(StepLog, "due", lambda self, steps: False)  # read at the end of the epoch alone
    after_step, optimizer_step = [], TrainedModule.optimizer_step

    def spy(module: TrainedModule, step: int, finite: torch.Tensor) -> None:
        optimizer_step(module, step, finite)
        if module.first_step == 0 and module.section != "autoencoder.adversarial":
            after_step.append((counts.synchronisations.total(), counts.copies["to_device"], counts.copies["to_host"]))

    monkeypatch.setattr(TrainedModule, "optimizer_step", spy)
    with counting() as counts:
        train(simulated_device())
    assert len(after_step) >= 3
    for before, after in pairwise(after_step):
        assert [now - then for now, then in zip(after, before, strict=True)] == [0, copies, 0]


@pytest.mark.slow
def test_every_stage_runs_on_another_device(prepared, tmp_path, monkeypatch):
    prepared(**DISCRIMINATOR)
    use_small_chunks(monkeypatch)
    device = simulated_device()
    for module in (start, train_latent_classifiers):
        monkeypatch.setattr(module, "set_up", lambda *settings: device)
    for stage in STAGES[2:]:  # those after download
        with counting() as counts:
            run_stages(tmp_path, stage)
        assert (counts.operations.total() > 0) == (stage != "train_latent_classifiers"), stage
        assert not {name.removeprefix("aten::") for name in counts.operations} & NOT_DETERMINISTIC
