"""The contestants of ``peers.py``: this project and other libraries, with the settings that their users would take.

The libraries train as their own examples do, at a size for 28x28 images on a CPU. Each has the loop below: AdamW,
averaged weights, batches of 64. The learning rate falls along a cosine over the time that is given, which suits a short
training better than the constant rate of two of the examples. Each network is conditioned on the class, with a tenth of
the labels dropped; ``scales`` are the guidance scales that are tried.

- diffusers: ``UNet2DModel`` of 32, 64 and 64 channels, as its course takes for 28x28 images. Noise schedule and
  prediction are those of examples/unconditional_image_generation; DPM-Solver++ with 20 steps.
- diffusers_latent: the same on latents 8x8x4 of its ``AutoencoderKL``, which trains for a quarter of the time.
- denoising_diffusion_pytorch: ``Unet`` and ``GaussianDiffusion`` of its ``classifier_free_guidance``; DDIM with 100
  steps, since the 250 of its README take 2.5 times as long. Guidance of 1 fails in that module (version 2.3.4), so
  larger scales are tried.
- smalldiffusion: its ``Unet`` and all else as examples/fashion_mnist_unet.py with half the channels; 20 steps, gam 1.6.
"""

import contextlib
import inspect
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import set_params, timed
from ruamel.yaml import YAML
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from latentline.core.attributes import CLASS
from latentline.core.load_params import PARAMS_FILE, read_params, validate
from latentline.latents.cache import read_labels
from latentline.runtime.parallel import SINGLE_PROCESS
from latentline.runtime.resume import ResumeFile
from latentline.samplers.registry import network_evaluations
from stages.encode_and_cache_latents import __main__ as encode_stage
from stages.sample.draw import ImageSampler, load_image_sampler
from stages.sample.moments import measure_moments
from stages.train_autoencoder import __main__ as autoencoder_stage
from stages.train_denoiser import __main__ as denoiser_stage

_BATCH, _DRAWN, _DROPPED, _AVERAGED = 64, 250, 0.1, 0.999
_Tensors = tuple[Tensor, ...] | list[Tensor]


def fit(network: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], count: int, seconds: float, lr: float) -> Any:
    """Train for ``seconds`` of processor time per thread, on rows of ``count`` images; return the averaged network."""
    averaged = AveragedModel(network, multi_avg_fn=_average)
    optimizer, begun = torch.optim.AdamW(network.train().parameters()), time.process_time()
    while (done := (time.process_time() - begun) / torch.get_num_threads() / seconds) < 1:
        optimizer.param_groups[0]["lr"] = lr * min(done / 0.02, 1) * (1 + math.cos(math.pi * done)) / 2
        optimizer.zero_grad()
        loss(network, torch.randint(count, (_BATCH,))).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(network)
    return averaged.module.eval().requires_grad_(False)


@torch.no_grad()
def _average(averaged: _Tensors, current: _Tensors, steps: Tensor | int) -> None:
    """Move the average; in the first steps further, as EMAModel of diffusers, so that no initial weights stay in it."""
    torch._foreach_lerp_(averaged, current, 1 - min(_AVERAGED, (1 + int(steps)) / (10 + int(steps))))


class Peer:
    """A library that trains on uint8 images and draws some of given classes."""

    scales: tuple[float, ...] = ()
    uncounted = 0.0  # seconds of ``train`` that were no training

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        """Train on images (N, C, H, W) and classes (N,) for ``seconds`` of processor time per thread."""
        raise NotImplementedError

    def draw(self, labels: Tensor, scale: float) -> Tensor:
        """Return uint8 images of the classes ``labels`` (N,)."""
        return torch.cat([_bytes(self._drawn(part, scale)) for part in labels.split(_DRAWN)])

    def _drawn(self, labels: Tensor, scale: float) -> Tensor:
        """Return a batch of images in [-1, 1]."""
        raise NotImplementedError

    def evaluations(self, scale: float) -> int:
        """Return the network evaluations per image."""
        raise NotImplementedError


def user_lines(peer: type[Peer]) -> int:
    """Return how many lines its user writes: those of its class and of the loop; of this project, one command."""
    if peer is Latentline:
        return 1
    written: list[Callable[..., Any]] = [fit, _average]
    written += [kind for kind in peer.__mro__ if issubclass(kind, Peer) and kind is not Peer]
    source = [line.strip() for part in written for line in inspect.getsource(part).splitlines()]
    return sum(bool(line) and not line.startswith(("#", '"""')) for line in source)


class Latentline(Peer):
    """Stages of this project with the settings of params.yaml, for as many epochs as the time allows."""

    def __init__(self, folder: Path, threads: int, changed: dict[str, Any]) -> None:
        self._folder = folder
        self._sampler: ImageSampler | None = None
        self._changed = {"compute.threads": threads, "compute.device": "cpu", "denoiser.preview.every_epochs": 0}
        self._changed |= changed
        self._write(**{"denoiser.epochs": 1})
        self.scales = (validate(read_params(folder / PARAMS_FILE)).sample.guidance_scale,)

    def _write(self, **settings: Any) -> None:
        yaml = YAML()
        content = yaml.load(PARAMS_FILE)
        set_params(content, {**self._changed, **settings})
        yaml.dump(content, self._folder / PARAMS_FILE.name)

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        """Train the autoencoder, then the denoiser; the epoch that measures an epoch's time is not counted."""
        with contextlib.chdir(self._folder):
            used = timed(autoencoder_stage.main)[1] + timed(encode_stage.main)[1]
            of_an_epoch = timed(denoiser_stage.main)[1]
            shutil.rmtree(".state", ignore_errors=True)
        self._write(**{"denoiser.epochs": max(1, int((seconds - used) / of_an_epoch))})
        with contextlib.chdir(self._folder):
            self.uncounted = of_an_epoch
            denoiser_stage.main()
            params = validate(read_params(PARAMS_FILE))
            sampler = load_image_sampler(params.sample, params.seed, torch.device("cpu"))
            training = read_labels(sampler.stats.schema)
            state = ResumeFile("sample", {}, ())
            moments = measure_moments(sampler.draw, sampler.denoiser, training, params.sample, SINGLE_PROCESS, state)
            state.finish()
            self._sampler = replace(sampler, moments=moments)

    def draw(self, labels: Tensor, scale: float) -> Tensor:
        """Return images of the recipe's own sampler and guidance, whose samples have the classes in turn."""
        sampler = self._drawing()
        rows = torch.arange(len(labels))
        if not torch.equal(sampler.labels[rows].column(CLASS).long(), labels):
            raise SystemExit("benchmarks/peers.py needs images whose only label is a class")
        with contextlib.chdir(self._folder):
            return torch.cat([sampler.images(part) for part in rows.split(_DRAWN)])

    def evaluations(self, scale: float) -> int:
        """Return the network evaluations of the recipe."""
        config = self._drawing().config
        name = validate(read_params(self._folder / PARAMS_FILE)).sample.sampler
        return network_evaluations(name, config.times, config.guidance)

    def _drawing(self) -> ImageSampler:
        assert self._sampler is not None  # noqa: S101  for mypy
        return self._sampler


class _Diffusers(Peer):
    """Pixels, with diffusers."""

    scales, _steps = (1.0, 1.5, 2.5), 20
    _channels: tuple[int, ...] = (32, 64, 64)

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        self._fit(images.float() / 127.5 - 1, labels, seconds)

    def _fit(self, x: Tensor, labels: Tensor, seconds: float) -> None:
        from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

        self._shape, self._null = x.shape[1:], int(labels.max()) + 1
        attention = len(self._channels) - 1
        network = UNet2DModel(
            sample_size=x.shape[2],
            in_channels=x.shape[1],
            out_channels=x.shape[1],
            layers_per_block=2,
            block_out_channels=self._channels,
            down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * attention),
            up_block_types=(*["AttnUpBlock2D"] * attention, "UpBlock2D"),
            num_class_embeds=self._null + 1,
        )
        schedule = DDPMScheduler(num_train_timesteps=1000)

        def loss(trained: nn.Module, rows: Tensor) -> Tensor:
            noise, t = torch.randn(len(rows), *self._shape), torch.randint(1000, (len(rows),))
            classes = torch.where(torch.rand(len(rows)) < _DROPPED, self._null, labels[rows])
            noisy = schedule.add_noise(x[rows], noise, t)
            return F.mse_loss(trained(noisy, t, class_labels=classes).sample, noise)

        self.network = fit(network, loss, len(x), seconds, lr=1e-3)
        self._solver = DPMSolverMultistepScheduler.from_config(schedule.config)

    @torch.no_grad()
    def _drawn(self, labels: Tensor, scale: float) -> Tensor:
        self._solver.set_timesteps(self._steps)
        z = torch.randn(len(labels), *self._shape)
        for t in self._solver.timesteps:
            noise = self.network(z, t, class_labels=labels).sample
            if scale != 1:
                unconditional = self.network(z, t, class_labels=torch.full_like(labels, self._null)).sample
                noise = unconditional + scale * (noise - unconditional)
            z = self._solver.step(noise, t, z).prev_sample
        return z

    def evaluations(self, scale: float) -> int:
        return self._steps * (1 if scale == 1 else 2)


class _DiffusersLatent(_Diffusers):
    """Latents of AutoencoderKL, with diffusers; images are padded to a multiple of 8, as its levels need."""

    _channels = (64, 64)

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        from diffusers import AutoencoderKL

        self._pad = [-size % 8 for size in images.shape[:1:-1]]  # of width and height
        x = F.pad(images.float() / 127.5 - 1, (0, self._pad[0], 0, self._pad[1]), value=-1.0)
        autoencoder = AutoencoderKL(
            in_channels=x.shape[1],
            out_channels=x.shape[1],
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 64),
            latent_channels=4,
        )

        def loss(trained: Any, rows: Tensor) -> Tensor:
            posterior = trained.encode(x[rows]).latent_dist
            return F.mse_loss(trained.decode(posterior.sample()).sample, x[rows]) + 1e-4 * posterior.kl().mean()

        begun = time.process_time()
        self._autoencoder = fit(autoencoder, loss, len(x), seconds / 4, lr=1e-3)
        z = torch.cat([self._autoencoder.encode(part).latent_dist.mode() for part in x.split(_DRAWN)])
        self._scale = z.std()
        used = (time.process_time() - begun) / torch.get_num_threads()
        self._fit(z / self._scale, labels, max(seconds - used, seconds / 10))

    @torch.no_grad()
    def _drawn(self, labels: Tensor, scale: float) -> Tensor:
        x = self._autoencoder.decode(super()._drawn(labels, scale) * self._scale).sample
        return x[..., : x.shape[2] - self._pad[1], : x.shape[3] - self._pad[0]]


class _DenoisingDiffusionPytorch(Peer):
    """Pixels, with lucidrains' denoising-diffusion-pytorch."""

    scales = (1.5, 3.0, 6.0)
    _steps = 100

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

        classes = int(labels.max()) + 1
        network = Unet(32, classes, cond_drop_prob=_DROPPED, dim_mults=(1, 2, 2), channels=images.shape[1])
        diffusion = GaussianDiffusion(network, image_size=images.shape[2], sampling_timesteps=self._steps)

        def loss(trained: nn.Module, rows: Tensor) -> Tensor:
            return trained(images[rows] / 255, classes=labels[rows])

        self._diffusion = fit(diffusion, loss, len(images), seconds, lr=1e-3)

    def _drawn(self, labels: Tensor, scale: float) -> Tensor:
        return 2 * self._diffusion.sample(labels, cond_scale=scale) - 1

    def evaluations(self, scale: float) -> int:
        return 2 * self._steps


class _SmallDiffusion(Peer):
    """Pixels, with smalldiffusion, whose scale 0 is no guidance."""

    scales = (0.0, 0.5, 1.5)
    _steps = 20

    def train(self, images: Tensor, labels: Tensor, seconds: float) -> None:
        from smalldiffusion import CondEmbedderLabel, Scaled, ScheduleLogLinear, Unet

        self._schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
        channels, size = images.shape[1:3]
        condition = CondEmbedderLabel(4 * 32, int(labels.max()) + 1, _DROPPED)
        sizes = {"ch": 32, "ch_mult": (1, 1, 2), "attn_resolutions": (size // 2,)}
        network = Scaled(Unet)(size, channels, channels, **sizes, cond_embed=condition)

        def loss(trained: Any, rows: Tensor) -> Tensor:
            sigma = self._schedule.sample_batch(images[rows].float()).view(-1, 1, 1, 1)
            x = images[rows] / 127.5 - 1
            return trained.get_loss(x, sigma, torch.randn_like(x), cond=labels[rows])

        self._network = fit(network, loss, len(images), seconds, lr=7e-4)

    def _drawn(self, labels: Tensor, scale: float) -> Tensor:
        from smalldiffusion import samples

        sigmas = self._schedule.sample_sigmas(self._steps)
        *_, x = samples(self._network, sigmas, gam=1.6, cfg_scale=scale, batchsize=len(labels), cond=labels)
        return x

    def evaluations(self, scale: float) -> int:
        return self._steps * (1 if scale == 0 else 2)


def _bytes(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8."""
    return (127.5 * (x.clamp(-1, 1) + 1)).round().to(torch.uint8)


LIBRARIES: dict[str, Callable[[], Peer]] = {
    "diffusers": _Diffusers,
    "diffusers_latent": _DiffusersLatent,
    "denoising_diffusion_pytorch": _DenoisingDiffusionPytorch,
    "smalldiffusion": _SmallDiffusion,
}
