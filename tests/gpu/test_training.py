"""Steps on a GPU: they wait for nothing, compute the numbers of the CPU, and go on after a stop with the same bytes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from latentline.core.seeds import generator
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.runtime.compute import set_up
from latentline.runtime.precision import Precision, autocast, inference
from latentline.samplers.registry import SAMPLERS, SamplerOptions, build_sampler
from latentline.training.state import TrainedModule
from latentline.training.step_log import StepLog
from support.small_networks import AUTOENCODERS, DENOISERS, IMAGE, distance, small_autoencoder, small_denoiser
from support.training_run import OPTIMIZER, Run, assert_a_stop_and_a_kill_change_nothing
from support.trainings import (
    DISCRIMINATOR,
    ONE_EPOCH,
    VARIANCE_PRESERVING,
    train_autoencoder,
    train_denoiser,
    train_extractor,
)

CPU = torch.device("cpu")
TOLERANCES = {"float32": 1e-3, "tf32": 0.02, "bf16": 0.08, "fp16": 0.02}  # relative, of loss, gradient and samples
each_precision = pytest.mark.parametrize("precision", TOLERANCES)


@pytest.fixture(autouse=True)
def _deterministic(gpu) -> None:
    set_up("cuda", 1)


def assert_agrees(network: nn.Module, loss_on: Callable[[torch.device], Tensor], precision: Precision) -> None:
    """Compare loss and gradient on the GPU with those on the CPU in float32; ``loss_on`` moves its own inputs."""
    found = []
    for device, own in ((CPU, "float32"), (torch.device("cuda"), precision)):
        network.zero_grad(set_to_none=True)
        network.to(device)
        with autocast(device, own):
            loss = loss_on(device)
        loss.backward()
        gradients = [part.grad.flatten() for part in network.parameters() if part.grad is not None]
        found.append((loss.detach(), torch.cat(gradients)))
    for computed, expected in zip(found[1], found[0], strict=True):
        assert distance(computed, expected) < TOLERANCES[precision]


@each_precision
@pytest.mark.parametrize("name", DENOISERS)
def test_loss_and_gradient_of_every_denoiser(name, precision):
    network, z0, t, condition = small_denoiser(name)
    process, inputs = build_process("flow", "velocity"), (z0, condition, t, torch.randn_like(z0))
    assert_agrees(
        network, lambda to: denoising_loss(network, process, *(part.to(to) for part in inputs)).mean(), precision
    )


@each_precision
@pytest.mark.parametrize("kind", [kind for kind in AUTOENCODERS if kind != "identity"])
def test_loss_and_gradient_of_every_autoencoder(kind, precision):
    network, x = small_autoencoder(kind), torch.rand(4, *IMAGE) * 2 - 1
    noise = network.sample_training_noise(4, generator(0))
    assert_agrees(network, lambda to: network.loss(x.to(to), tuple(part.to(to) for part in noise))[0], precision)


@each_precision
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow_map"])
def test_samples_of_every_sampler(gpu, name, precision):
    network, z, _, condition = small_denoiser("dit")
    noises, samples = torch.randn(4, *z.shape), []
    for device, own in ((CPU, "float32"), (gpu, precision)):
        sampler = build_sampler(name, SamplerOptions(eta=0.5), lambda step, to=device: noises[step].to(to))
        process, guidance = build_process("flow", "velocity"), Guidance(2.0, start=0.2, end=0.7)
        model = guided_model(network.to(device), process, condition.to(device), guidance)
        with inference(device, own, "precision"), torch.no_grad():
            samples.append(sampler(model, z.to(device), time_grid(4)))
    assert samples[1].device.type == "cuda"
    assert distance(samples[1], samples[0]) < TOLERANCES[precision]


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("decays", [(), (0.9, 0.99)], ids=["", "averages"])
def test_a_stopped_and_a_killed_training_end_with_the_same_bytes(workplace, decays, precision):
    optimizer = replace(OPTIMIZER, precision=precision)
    assert_a_stop_and_a_kill_change_nothing(Run(decays, optimizer=optimizer, device="cuda"))


@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "fastest"])
@pytest.mark.parametrize(
    ("train", "params"),
    [
        (train_extractor, {}),
        (train_autoencoder, {}),
        (train_autoencoder, DISCRIMINATOR),
        (train_denoiser, {"denoiser.optimizer.accumulate": 2}),
        (train_denoiser, {"denoiser.optimizer.precision": "fp16"}),
        (train_denoiser, {**VARIANCE_PRESERVING, "denoiser.optimizer.precision": "bf16"}),
    ],
    ids=["feature_extractor", "autoencoder", "discriminator", "micro_batches", "fp16", "variance_preserving"],
)
def test_a_step_waits_for_nothing(gpu, small_runs, tmp_path, monkeypatch, train, params, deterministic):
    run = small_runs("everything").copy(tmp_path / "run")
    optimizers = [f"{section}.optimizer" for section in ("autoencoder", "denoiser", "feature_extractor")]
    settings = {f"{optimizer}.batch_size": 8 for optimizer in optimizers}
    no_save = {f"{optimizer}.schedule": "cosine" for optimizer in optimizers}  # no longer run may continue
    run.run(**ONE_EPOCH, **settings, **no_save, **params)
    monkeypatch.chdir(run.folder)
    set_up("cuda", 1, deterministic)
    monkeypatch.setattr(StepLog, "due", lambda self, steps: False)  # read at the end of the epoch alone
    optimizer_step, read, steps = TrainedModule.optimizer_step, StepLog.read, []

    def watched(module: TrainedModule, step: int, finite: Tensor) -> None:
        optimizer_step(module, step, finite)
        steps.append(step)
        torch.cuda.set_sync_debug_mode("error")  # from the second step on; the first may allocate

    def reading(log: StepLog) -> object:
        torch.cuda.set_sync_debug_mode("default")
        return read(log)

    monkeypatch.setattr(TrainedModule, "optimizer_step", watched)
    monkeypatch.setattr(StepLog, "read", reading)
    try:
        train(gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert max(steps) >= 3
