"""Draw samples for the explorer: with the run's own settings they are those of stage ``sample``, image by image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.core.arrays import save_arrays
from latentline.core.attributes import CLASS
from latentline.core.errors import UserError
from latentline.core.finite import require_finite
from latentline.core.inputs import attribute_values, require_integer, require_number
from latentline.core.labels import LabelTable, class_names
from latentline.denoisers.conditioning import labels_for_samples
from latentline.denoisers.sampling import draw_latents
from latentline.explorer.session import Session
from latentline.figures.grids import save_grid
from latentline.samplers.registry import SAMPLERS, require_serves
from latentline.samplers.settings import SamplingSettings

MAX_COUNT, MAX_STEPS, MAX_SCALE = 100, 250, 20.0
_NAME = "sample"  # of the stage's series of images: equal settings give equal images
_BATCH = 50  # images at a time; does not change the images
_TIMES = 8  # columns of the trajectory
_SHOWN = 4  # images with a trajectory

Progress = Callable[[float], None]
"""Receives the finished share, from 0 to 1."""


@dataclass(frozen=True)
class SampleRequest:
    """Settings of a draw; the names are those of section ``sample``."""

    count: int = 40
    seed: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    """Attribute -> value; the others come in turn (the class) or from training images."""
    prompt: str = ""
    negative_prompt: str = ""
    sampler: str = "dpmpp_2m"
    steps: int = 16
    guidance_scale: float = 1.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0

    @classmethod
    def of_run(cls, session: Session, **changes: Any) -> "SampleRequest":
        """Return the settings of the run's params.yaml, with some ``changes``."""
        own = cls(seed=session.setting("seed", 0))
        names = ("sampler", "steps", "guidance_scale", "guidance_start", "guidance_end")
        found = {name: session.setting(f"sample.{name}", getattr(own, name)) for name in names}
        return replace(own, **(found | changes))


@dataclass(frozen=True)
class Samples:
    """Drawn images."""

    images: Tensor
    """uint8 (N, C, H, W)."""
    z0: Tensor
    """Standardised (N, *latent_shape)."""
    labels: LabelTable
    times: tuple[float, ...]
    """Of the trajectory, from 1 (noise) to 0 (data)."""
    trajectory: Tensor
    """uint8 (n, times, C, H, W): the decoded states of the first n images."""
    unmatched: bool
    """The run matches moments, but not of samples with these settings."""

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write samples.png, a grid without texts, and samples.safetensors, as in data/generated."""
        columns = max(1, round(len(self.images) ** 0.5))
        save_grid(folder / "samples.png", self.images, columns)
        save_arrays(
            folder / "samples.safetensors", {"images": self.images, **self.labels.arrays()}, {"kind": "samples"}
        )
        return folder / "samples.png", folder / "samples.safetensors"


def samplers(session: Session) -> list[str]:
    """Return the samplers that can serve the denoiser."""
    serving = []
    process = session.model.denoiser.process
    for name in SAMPLERS:
        try:
            require_serves(name, process.path.name, process.prediction, averages=process.flow_map is not None)
        except UserError:
            continue
        serving.append(name)
    return serving


def draw(session: Session, request: SampleRequest, progress: Progress | None = None, first: int = 0) -> Samples:
    """Draw samples of index ``first`` and up.

    Args:
        session: with a denoiser.
        request: settings.
        progress: of the steps.
        first: index of the first image. With a class fixed, the images are those that this class has in turn.

    Raises:
        UserError: a value out of range, or a sampler that cannot serve the denoiser.
    """
    settings = _settings(session, request)
    denoiser, moments = session.model.denoiser, session.moments
    config, maps = settings.config(denoiser), None if moments is None else moments.maps_for(settings)
    labels, indices = _labels(session, request, first)
    tokens = _tokens(session, request, len(indices))
    batches = torch.arange(len(indices)).split(_BATCH)
    done, total = 0, len(batches) * len(config.times)
    states: list[tuple[float, Tensor]] = []

    def callback(number: int, t: float, z: Tensor) -> None:
        nonlocal done
        done += 1
        if number == 0:
            states.append((t, z[:_SHOWN].clone()))
        if progress:
            progress(min(1.0, done / total))

    drawn = [
        draw_latents(
            denoiser,
            config,
            request.seed,
            _NAME,
            indices[rows],
            labels[rows],
            partial(callback, number),
            None if tokens is None else tokens[rows],
        )
        for number, rows in enumerate(batches)
    ]
    z0 = require_finite(torch.cat(drawn), f"guidance_scale ({request.guidance_scale})", "lower it")
    if maps is not None:
        z0 = maps(z0, denoiser.conditioning.encode(labels).to(z0.device))
        states[-1] = states[-1][0], z0[:_SHOWN]
    kept = torch.linspace(0, len(states) - 1, min(_TIMES, len(states))).round().long().tolist()
    stack = torch.stack([states[index][1] for index in kept], dim=1)  # (n, times, *latent_shape)
    restore, decode = session.model.stats.normalizer.restore, session.model.autoencoder.decode
    trajectory = decode(restore(stack.flatten(0, 1))).unflatten(0, stack.shape[:2])
    images = torch.cat([decode(restore(z0[rows]), first=int(indices[rows][0])) for rows in batches])
    unmatched = maps is None and moments is not None and moments.maps is not None
    return Samples(images, z0.cpu(), labels, tuple(states[index][0] for index in kept), trajectory, unmatched)


def _settings(session: Session, request: SampleRequest) -> SamplingSettings:
    """Return the settings of a sampler, those of the run where the request has none. Raises UserError out of range."""
    require_integer("count", request.count, 1)
    require_integer("steps", request.steps, 1)
    require_integer("seed", request.seed, 0)
    for name, largest in (("count", MAX_COUNT), ("steps", MAX_STEPS), ("seed", 2**53)):
        require_number(name, getattr(request, name), 0, largest)
    require_number("guidance_scale", request.guidance_scale, 0, MAX_SCALE)
    for name in ("guidance_start", "guidance_end"):
        require_number(name, getattr(request, name), 0, 1)
    own = {name: session.setting(f"sample.{name}", default) for name, default in vars(SamplingSettings()).items()}
    asked = {name: value for name, value in vars(request).items() if name in own}
    settings = SamplingSettings(**own | asked | {"negative_prompt": request.negative_prompt.strip()})
    return settings.with_learnt_guidance(session.model.denoiser.process)


def _labels(session: Session, request: SampleRequest, first: int) -> tuple[LabelTable, Tensor]:
    """Return the labels and the indices of the images."""
    schema, training = session.schema, session.training_labels
    given = {name: value for name, value in request.values.items() if value is not None}
    stride, offset = 1, first
    if CLASS in given:
        classes = class_names(schema)
        (label,) = attribute_values(schema[0], given[CLASS]).tolist()
        stride, offset = len(classes), int(label) + first * len(classes)
    indices = offset + stride * torch.arange(request.count)
    labels = labels_for_samples(training, int(indices[-1]) + 1)[indices]
    values = labels.values.clone()
    for column, attribute in enumerate(schema):
        if attribute.name in given:
            values[:, column] = attribute_values(attribute, given[attribute.name])
    return LabelTable(schema, values), indices


def _tokens(session: Session, request: SampleRequest, count: int) -> Tensor | None:
    tokenizer = session.model.denoiser.conditioning.tokenizer
    if tokenizer is None or not request.prompt.strip():
        return None
    return tokenizer.encode([request.prompt.strip()[:1000]], "prompts").expand(count, -1)
