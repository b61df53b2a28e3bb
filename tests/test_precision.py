"""bf16 and fp16 agree with float32 within stated tolerances, train as well, and leave all that is stored in float32."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from latentline.autoencoders.load import decode_images, encode_images
from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.seeds import generator
from latentline.data.store import to_uint8
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.runtime.precision import LossScale, autocast, inference, require_supported, tensor_cores
from latentline.runtime.resume import ResumeFile
from latentline.samplers.registry import SAMPLERS, SamplerOptions, build_sampler
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch
from latentline.training.step_log import StepLog
from stages.train_autoencoder.adversarial import LOSSES, adaptive_weight, last_layer
from stages.train_autoencoder.discriminator import PatchDiscriminator
from support.small_networks import AUTOENCODERS, DENOISERS, IMAGE, distance, small_autoencoder, small_denoiser
from support.training_run import NEVER, OPTIMIZER, Run, assert_a_stop_and_a_kill_change_nothing, reference

CPU = torch.device("cpu")
PRECISIONS = ("bf16", "fp16")
LOSS_TOLERANCE = 0.02  # relative; bf16 has 8 bits of mantissa
GRADIENT_TOLERANCE = 0.08  # relative, of the whole gradient's norm
IMAGE_TOLERANCE = 0.04  # of the root mean square


def assert_agrees(network: nn.Module, loss_of, precision: str, gradient_tolerance: float = GRADIENT_TOLERANCE) -> None:
    """Compare loss and gradient of a precision with those of float32."""
    found = []
    for own in ("float32", precision):
        network.zero_grad()
        with autocast(CPU, own):
            loss = loss_of()
        assert loss.dtype == torch.float32
        loss.backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        found.append((loss.item(), torch.cat([gradient.flatten() for gradient in gradients])))
    (expected, gradient), (value, own_gradient) = found
    assert value == pytest.approx(expected, rel=LOSS_TOLERANCE)
    assert distance(own_gradient, gradient) < gradient_tolerance
    assert value != expected  # it was computed otherwise


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", DENOISERS)
def test_the_loss_of_every_denoiser(name, precision):
    network, z0, t, condition = small_denoiser(name)
    process, noise = build_process("flow", "velocity"), torch.randn_like(z0)
    assert_agrees(network, lambda: denoising_loss(network, process, z0, condition, t, noise).mean(), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", [kind for kind in AUTOENCODERS if kind != "identity"])
def test_the_loss_of_every_autoencoder(kind, precision):
    network, x = small_autoencoder(kind), torch.rand(4, *IMAGE) * 2 - 1
    noise = network.sample_training_noise(4, generator(0))
    assert_agrees(network, lambda: network.loss(x, noise)[0], precision)


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_latents_and_images_are_float32_and_close(kind):
    network, images = small_autoencoder(kind), torch.randint(0, 256, (4, *IMAGE), dtype=torch.uint8)
    latents = encode_images(network, images, CPU)
    decoded = decode_images(network, latents, CPU, IMAGE)
    with inference(CPU, "bf16", "x"), torch.no_grad():
        own = encode_images(network, images, CPU)
        assert own.dtype == network.decode(own).dtype == torch.float32
        own_decoded = decode_images(network, latents, CPU, IMAGE)
    assert distance(own, latents) < IMAGE_TOLERANCE
    assert distance(own_decoded, decoded) < IMAGE_TOLERANCE


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_an_autoencoder_that_is_cast_whole_gives_what_it_gave(kind):
    network, x = small_autoencoder(kind), torch.rand(4, *IMAGE) * 2 - 1
    with torch.no_grad():
        latents = network.encode(x)
        decoded = network.decode(latents)
        network.bfloat16()
        assert distance(network.encode(x), latents) < IMAGE_TOLERANCE
        assert distance(network.decode(latents), decoded) < IMAGE_TOLERANCE
        assert network.encode(x).dtype == network.decode(latents).dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow_map"])
def test_samples_are_float32_and_close(name):
    network, z, _, condition = small_denoiser("dit")
    noises = torch.randn(4, *z.shape)
    sampler = build_sampler(name, SamplerOptions(eta=0.5), lambda step: noises[step])
    model = guided_model(network, build_process("flow", "velocity"), condition, Guidance(2.0, start=0.2, end=0.7))
    samples = []
    for precision in ("float32", "bf16"):
        with inference(CPU, precision, "x"), torch.no_grad():
            samples.append(sampler(model, z, time_grid(4)))
    assert samples[1].dtype == torch.float32
    assert 0 < distance(samples[1], samples[0]) < IMAGE_TOLERANCE


def test_the_feature_extractors_and_the_adversarial_losses():
    network, x = ConvClassifier(IMAGE, outputs=3, channels=8, features=8, dropout=0.0), torch.rand(8, *IMAGE)
    label = Attribute("label", "categorical", ("a", "b", "c"))
    classes = torch.arange(8.0) % 3
    assert_agrees(
        network, lambda: label.complete_loss(network(x).float(), classes), "bf16", 0.2
    )  # BatchNorm divides by small deviations

    discriminator = PatchDiscriminator(1, channels=8, layers=1)
    for loss in LOSSES.values():
        assert_agrees(discriminator, lambda loss=loss: loss.discriminator(*discriminator(x).chunk(2)), "bf16")
    vae = small_autoencoder("vae")
    weights = []
    for precision in ("float32", "bf16"):
        with autocast(CPU, precision):
            error, _, decoded = vae.loss(x, vae.sample_training_noise(8, generator(0)))
            generated = LOSSES["hinge"].generator(discriminator(decoded))
            weights.append(adaptive_weight(error, generated, last_layer(vae.decoder), maximum=1e4))
    assert weights[1].dtype == torch.float32
    assert weights[1].item() == pytest.approx(weights[0].item(), rel=0.05)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_a_training_learns_as_well_and_keeps_its_weights_in_float32(workplace, precision):
    _, _, expected = reference(Run((0.9,), epochs=20).fit)
    optimizer = replace(OPTIMIZER, precision=precision)
    (own, own_average), _, history = reference(Run((0.9,), epochs=20, optimizer=optimizer).fit)
    assert {tensor.dtype for module in (own, own_average) for tensor in module.parameters()} == {torch.float32}
    if precision == "tf32":  # a CPU has none
        assert history == expected
    else:
        assert history != expected
        assert history[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=0.1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stopped_and_a_killed_training_end_with_the_same_bytes(workplace, precision):
    assert_a_stop_and_a_kill_change_nothing(Run((0.9,), optimizer=replace(OPTIMIZER, precision=precision)))


class _Training:
    """A linear layer whose loss a test multiplies at each step."""

    def __init__(self, precision: str, factor) -> None:
        self.network = nn.Linear(2, 1)
        self.factor = factor
        self.weights: list[Tensor] = []
        saving = Saving(ResumeFile("train_test", {}, ()), NEVER)
        self.config = TrainConfig("denoiser", 2, 4, replace(OPTIMIZER, precision=precision), saving)
        self.average = Ema(self.network, 0.9)

    def loss(self, step: int) -> list[MicroBatch]:
        self.weights.append(self.network.weight.detach().clone())
        value = self.network(torch.ones(1, 2)).float().sum() * self.factor(step)
        return [(1.0, value, {"loss": value})]

    def fit(self) -> list[dict[str, float]]:
        return fit(self.network, self.loss, self.config, averages=[self.average])[1]


def test_a_step_that_is_not_finite_moves_nothing_and_is_named_at_the_next_reading(workplace, monkeypatch):
    monkeypatch.setattr(StepLog, "due", lambda self, steps: False)  # at the end of an epoch, step 3
    training = _Training("bf16", lambda step: math.nan if step == 1 else 1.0)
    with pytest.raises(UserError, match=r"denoiser: loss nan and gradient norm nan at step 1 "):
        training.fit()
    assert torch.equal(training.weights[1], training.weights[2])  # before and after the step
    assert not torch.equal(training.weights[0], training.weights[1])
    assert len(training.weights) == 4
    assert training.network.weight.isfinite().all()
    assert training.average.model.weight.isfinite().all()


def test_gradients_that_overflow_in_float16_lower_the_losss_factor_and_train_on(workplace):
    training = _Training("fp16", lambda step: 8.0 if step == 1 else 1.0)  # 8 * 2^16 is beyond float16
    rows = training.fit()
    assert torch.equal(training.weights[1], training.weights[2])
    assert not torch.equal(training.weights[2], training.weights[3])
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_gradients_that_are_infinite_at_any_factor_stop_the_training_in_float16(workplace):
    training = _Training("fp16", lambda step: 1.0)
    training.network.weight.register_hook(lambda gradient: gradient * math.inf)
    training.config = replace(training.config, epochs=6)
    with pytest.raises(UserError, match=r"gradient norm (inf|nan) at step 16 .*set the precision to bf16"):
        training.fit()


def test_the_factor_doubles_after_2000_steps_and_halves_after_an_overflow():
    scale, never = LossScale(CPU), torch.tensor(False)
    for _ in range(1999):
        scale.update(never)
    assert scale.factor == 2**16
    scale.update(never)
    assert scale.factor == 2**17
    scale.update(torch.tensor(True))
    assert scale.factor == 2**16
    other = LossScale(CPU)
    other.restore(scale.tensors())
    assert other.tensors() == scale.tensors()


def test_tensor_cores_are_set_for_the_block_alone():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    for precision, expected in {"float32": "ieee", "tf32": "tf32", "bf16": "tf32", "fp16": "tf32"}.items():
        with tensor_cores(precision):
            assert [backend.fp32_precision for backend in backends] == [expected, expected]
        assert [backend.fp32_precision for backend in backends] == before


def test_float16_with_sharded_weights_is_refused():
    with pytest.raises(UserError, match=r"denoiser.optimizer.precision \(fp16\) must be another .*; set it to bf16"):
        require_supported(CPU, "fp16", "denoiser.optimizer.precision", sharded=True)


def test_bytes_are_rounded_from_float32():
    pixels = torch.linspace(-1, 1, 1001).bfloat16()
    assert torch.equal(to_uint8(pixels), to_uint8(pixels.float()))


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("trains", [True, False])
def test_attention_on_the_cpu_is_fused_in_bf16_unless_a_gradient_follows(trains):
    """The gradient of the fused kernel takes twenty times as long as that of the plain operators."""
    x = torch.randn(2, 4, 16, 8, requires_grad=trains)
    with torch.set_grad_enabled(trains), autocast(CPU, "bf16"), Operators() as found:
        F.scaled_dot_product_attention(x.bfloat16(), x.bfloat16(), x.bfloat16())
    assert ("_scaled_dot_product_flash_attention_for_cpu" in found.names) != trains
