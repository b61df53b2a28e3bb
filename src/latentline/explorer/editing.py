"""Edit one image through its latent: shifts along directions, a mixture with another image, and re-noising."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from latentline.core.finite import require_finite
from latentline.core.inputs import require_integer, require_number
from latentline.core.labels import LabelTable
from latentline.core.seeds import start_noise
from latentline.data.store import to_unit_range
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.sdedit import sdedit
from latentline.editing.directions import spread, unit
from latentline.editing.targets import Target, all_targets, require_names, target_differences
from latentline.explorer.session import Session
from latentline.explorer.start_images import StartImage, decoded, named

MAX_STRENGTH = 8.0
_STEPS = 8  # of re-noising


@dataclass(frozen=True)
class Direction:
    """A target, and the vector that leads to it."""

    target: Target
    vector: Tensor
    """Of length 1, (F,)."""
    scale: float
    """Distance that counts as strength 1: the standard deviation of the gallery's latents along the vector."""


@dataclass(frozen=True)
class EditRequest:
    """What to do with an image."""

    shifts: Mapping[str, float] = field(default_factory=dict)
    """Target's name -> strength, in standard deviations of the latents along its direction."""
    mix: float = 0.0
    """Fraction of the way to the latent of the other image."""
    renoise: float = 0.0
    """SDEdit noises the latent up to this t, and denoises it conditioned on the targets; 0 = off."""
    prompts: tuple[str, str] = ("", "")
    """Captions to go from and to; empty = off."""
    prompt_strength: float = 1.0
    seed: int = 0
    keep_noise: bool = True
    """A diffusion autoencoder decodes from the image's own x_T; False = from the seed's."""


@dataclass(frozen=True)
class Edit:
    """Images of an edit, uint8 (4, C, H, W): original, reconstruction, edit, difference; and what they show."""

    images: Tensor
    names: tuple[str, ...]


TITLES = ("original", "reconstruction", "edit", "difference")


@cache
def directions(session: Session) -> tuple[Direction, ...]:
    """Return a direction for each target: the probes' normals or, without probes, differences of means.

    A target without a direction is left out.
    """
    if not session.schema:
        return ()
    gallery = session.gallery()
    if session.classifiers is not None:
        targets, normals = all_targets(session.classifiers.schema), session.classifiers.probe.weight
    else:
        targets = all_targets(session.schema)
        normals = target_differences(targets, gallery.flat, gallery.labels.values)
    rows = [row for row in range(len(targets)) if bool(normals[row].any())]
    vectors = unit(normals[rows])
    scales = spread(gallery.flat, vectors).tolist()
    return tuple(Direction(targets[row], *rest) for row, *rest in zip(rows, vectors, scales, strict=True))


@torch.no_grad()
def edit(session: Session, source: StartImage, request: EditRequest, other: StartImage | None = None) -> Edit:
    """Edit the latent of ``source``, decode it, and compare.

    Args:
        session: the run.
        source: the image.
        request: what to do.
        other: image to mix with; None = none.

    Raises:
        UserError: a value out of range, or an unknown target.
    """
    mix, renoise = require_number("mix", request.mix, 0, 1), require_number("renoise", request.renoise, 0, 1)
    require_integer("seed", request.seed, 0)
    noise = _own_noise(session, source, request)
    z0 = source.z0.cpu()
    plain = decoded(session, z0, noise)
    if other is not None:
        z0 = torch.lerp(z0, other.z0.cpu(), mix)
    chosen = _chosen(session, request.shifts)
    for direction, strength in chosen:
        z0 = z0 + (strength * direction.scale) * direction.vector.reshape(z0.shape)
    if all(prompt.strip() for prompt in request.prompts):
        strength = require_number("prompt_strength", request.prompt_strength, -MAX_STRENGTH, MAX_STRENGTH)
        images, (before, after) = to_unit_range(source.image), request.prompts
        z0 = z0 + session.model.prompt_direction(images, before, after, strength=strength, seed=request.seed).cpu()
    if renoise:
        towards = [direction.target for direction, strength in chosen if strength > 0]
        z0 = _sdedit(session, z0, source.labels, towards, renoise, request.seed)
    require_finite(z0, "strengths", "lower them")
    edited = decoded(session, z0, noise)
    difference = (edited.int() - plain.int()).abs().to(torch.uint8)
    shown = torch.cat([source.image, plain, edited])
    return Edit(torch.cat([shown, difference]), (*named(session, shown), _changed(difference)))


def _chosen(session: Session, shifts: Mapping[str, float]) -> list[tuple[Direction, float]]:
    """Return the directions with a strength other than 0."""
    named_directions = {direction.target.name: direction for direction in directions(session)} if shifts else {}
    require_names("direction", list(shifts), list(named_directions))
    strengths = {
        name: require_number(f"strength of {name}", strength, -MAX_STRENGTH, MAX_STRENGTH)
        for name, strength in shifts.items()
    }
    return [(named_directions[name], strength) for name, strength in strengths.items() if strength]


def _own_noise(session: Session, source: StartImage, request: EditRequest) -> Tensor | None:
    """Return x_T (1, *noise_shape) of a diffusion autoencoder: the image's own, or the seed's."""
    shape = session.model.autoencoder.network.noise_shape
    if shape is None:
        return None
    if request.keep_noise:
        return session.model.invert(to_unit_range(source.image), source.z0)
    return start_noise(request.seed, "explorer/x_T", torch.zeros(1, dtype=torch.int64), shape)


def _sdedit(session: Session, z0: Tensor, labels: LabelTable, towards: Sequence[Target], t: float, seed: int) -> Tensor:
    """Noise z0 (1, *latent_shape) up to t and denoise it, conditioned on the image's labels with these targets set."""
    denoiser = session.model.denoiser
    values = labels.values
    for target in towards:
        values = target.with_target(values)
    model = conditioned_model(denoiser, LabelTable(labels.schema, values), Guidance())
    noise = start_noise(seed, "renoise", torch.zeros(1, dtype=torch.int64), denoiser.latent_shape)
    start, noise = z0.to(denoiser.device), noise.to(denoiser.device)
    return sdedit(dpmpp_2m, model, start, noise, t, _STEPS).cpu()


def _changed(difference: Tensor) -> str:
    return f"{difference.float().mean() / 255:.1%} changed"
