"""Every stage that computes with a network runs on another device, mixes no devices, and draws nothing there."""

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from latentline.core.load_params import load
from latentline.core.paths import PREPARED
from latentline.data.store import read_card, read_split
from latentline.latents.cache import read_stats
from latentline.runtime import start
from latentline.runtime.parallel import SINGLE_PROCESS
from latentline.training.config import saving_of
from latentline.training.loop import Saving
from latentline.training.state import TrainedModule
from latentline.training.step_log import StepLog
from stages.train_autoencoder import train as autoencoder_training
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.perceptual import PerceptualDistance
from stages.train_denoiser import train as denoiser_training
from stages.train_denoiser.latents import read_split as read_latents
from stages.train_denoiser.params import DenoiserParams
from stages.train_feature_extractor import train as extractor_training
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_latent_classifiers import __main__ as train_latent_classifiers
from support.checkout import STAGES
from support.simulated_device import counting, simulated_device, simulated_pinning
from support.stage_runs import DIGITS, run_stages, use_small_chunks

pytestmark = pytest.mark.usefixtures("machine")

DISCRIMINATOR = {"autoencoder.adversarial.weight": 0.1, "autoencoder.adversarial.channels": 8}
AT_ONCE = {"autoencoder.adversarial.start_step": 0, "autoencoder.adversarial.warmup_steps": 0}
VARIANCE_PRESERVING = {
    "denoiser.process.path": "vp_linear",
    "denoiser.process.prediction": "v",
    "sample.sampler": "euler",
}
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
ONE_EPOCH = {"autoencoder.epochs": 1, "denoiser.epochs": 1, "feature_extractor.epochs": 1}


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


def train_extractor(device: torch.device) -> None:
    params, seed, compute = load("feature_extractor", FeatureExtractorParams)
    card, train, val = read_card(PREPARED), read_split(PREPARED, "train"), read_split(PREPARED, "val")
    extractor = extractor_training.build(params, card, train.labels.values, seed, device)
    training, saving = (
        extractor_training.training_of(params),
        extractor_training.saving_for(params, card, seed, compute),
    )
    extractor_training.train(
        extractor, card.schema, train, val, training, device=device, seed=seed, saving=saving, ranks=SINGLE_PROCESS
    )


def train_autoencoder(device: torch.device) -> None:
    params, seed, compute = load("autoencoder", AutoencoderParams)
    card = read_card(PREPARED)
    network, trained_on = autoencoder_training.build_initial(params, card, device, seed, SINGLE_PROCESS)
    context = autoencoder_training.TrainingContext(params, card, trained_on, device, seed, compute, SINGLE_PROCESS)
    autoencoder_training.train_autoencoder(network, context, context.saving("autoencoder"), params.epochs)


def train_denoiser(device: torch.device) -> None:
    params, seed, compute = load("denoiser", DenoiserParams)
    stats = read_stats()
    denoiser, _ = denoiser_training.build(params, stats, seed, device, SINGLE_PROCESS)
    splits = {name: read_latents(name, stats, denoiser.conditioning, device) for name in ("train", "val")}
    saving: Saving = saving_of("train_denoiser", {}, {}, compute, computed_by=["stages.train_denoiser.train"])
    denoiser_training.train(denoiser, params, splits, seed, saving, SINGLE_PROCESS, lambda denoiser, epoch: None)


@pytest.mark.parametrize(
    ("train", "params"),
    [
        (train_extractor, {}),
        (train_autoencoder, {**DISCRIMINATOR, **AT_ONCE}),
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
        (train_autoencoder, {**DISCRIMINATOR, **AT_ONCE}, 2),  # rows, noise
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
    prepared(**DISCRIMINATOR, **AT_ONCE)
    use_small_chunks(monkeypatch)
    device = simulated_device()
    for module in (start, train_latent_classifiers):
        monkeypatch.setattr(module, "set_up", lambda *settings: device)
    for stage in STAGES[2:]:  # those after download
        with counting() as counts:
            run_stages(tmp_path, stage)
        assert (counts.operations.total() > 0) == (stage != "train_latent_classifiers"), stage
        assert not {name.removeprefix("aten::") for name in counts.operations} & NOT_DETERMINISTIC
