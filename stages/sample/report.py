"""Metrics and figures of the samples: cost, grid, trajectories."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import noise_for_index
from latentline.core.files import replaced_folder, write_metrics
from latentline.core.labels import LabelTable, class_names
from latentline.core.paths import FIGURES, GENERATED, METRICS
from latentline.core.seeds import start_noise
from latentline.data.samples import read_samples
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.path import add_noise_at
from latentline.figures.animation import save_animation
from latentline.figures.grids import GridText, save_grid, turns_as_rows
from latentline.figures.names import first_of, image_names
from latentline.figures.plots import write_table
from latentline.samplers.registry import network_evaluations
from stages.sample.draw import STAGE, ImageSampler
from stages.sample.params import SampleParams

_TRAJECTORIES = 4
_MAX_TIMES = 13  # of a trajectory
_TIME = "time t (1 = noise, 0 = data)"


def write_report(params: SampleParams, sampler: ImageSampler) -> None:
    """Write metrics/sample.json and fig/sample; the samples are in data/generated."""
    evaluations = network_evaluations(params.sampler, sampler.config.times, sampler.config.guidance)
    write_metrics(METRICS / "sample.json", {"count": params.count, "network_evaluations": evaluations})
    with replaced_folder(FIGURES / "sample") as folder:
        figures, images = params.figures, read_samples(GENERATED, sampler.autoencoder.sha256).images
        prompts = sampler.captions() or []
        classes = len(sampler.stats.classes) if sampler.classes_in_turn else 0
        turn = classes or (len(prompts) if 1 < len(prompts) <= params.count // 2 else figures.height)
        num_rows = min(turn, params.count)
        columns = min(figures.width, params.count // num_rows)  # as many of each class as there are of the last
        shown = turns_as_rows(num_rows, figures.height, columns)
        rows = _row_names(sampler, prompts, num_rows)[: figures.height]
        kind = "prompt" if prompts else "class"
        title = f"Samples, one {kind} per row" if rows else "Samples"
        note = f"{_settings(params, sampler)}{first_of(len(rows) or num_rows, num_rows, f'{kind} rows')}"
        save_grid(folder / "grid.png", images[shown], columns, figures.scale, GridText(title, note, rows))
        if prompts:
            cells = [(number // columns, number % columns, index) for number, index in enumerate(shown.tolist())]
            captions = [
                {"row": row, "column": column, "prompt": prompts[index % len(prompts)]} for row, column, index in cells
            ]
            write_table(folder / "prompts.csv", captions)
        _draw_trajectories(folder, params, sampler, prompts)


def _settings(params: SampleParams, sampler: ImageSampler) -> str:
    """Return a sentence on how the samples were drawn: sampler, steps, and guidance where there is any."""
    guidance, guided = sampler.config.guidance, ""
    if guidance.scale != 1:
        early = sampler.denoiser.guide_for(guidance) is not None
        guided = f", guidance scale {guidance.scale:g} for {guidance.start:g} <= t <= {guidance.end:g}"
        guided += ", away from an early denoiser" if early else ""
    steps, matched = len(sampler.config.times) - 1, "" if sampler.moments is None else ", moments matched"
    return f"Sampler {params.sampler}, {steps} step{'' if steps == 1 else 's'}{guided}{matched}."


def _row_names(sampler: ImageSampler, prompts: Sequence[str], num_rows: int) -> list[str]:
    """Return the class or the prompt of each row of the grid; none where a row has no one meaning."""
    if prompts:
        return list(prompts) if len(prompts) == num_rows else []
    return image_names(_conditions(sampler)[:num_rows]) if class_names(_conditions(sampler).schema) else []


def _conditions(sampler: ImageSampler) -> LabelTable:
    """Return the labels of the samples that the denoiser is conditioned on."""
    return sampler.labels.select(sampler.denoiser.conditioning.names)


def _draw_trajectories(folder: Path, params: SampleParams, sampler: ImageSampler, prompts: Sequence[str]) -> None:
    """Write trajectory.png, and sampling.gif: the states above the estimates, a frame for each time."""
    count = min(_TRAJECTORIES, params.count)
    states, times = draw_trajectories(sampler, count)
    names = [prompts[index % len(prompts)] for index in range(count)] if prompts else None
    names = names or image_names(_conditions(sampler)[:count], "sample")
    rows = [name for first in names for name in (f"{first}: state", "estimate", "noised")]
    note = (
        "Three rows per sample, all decoded: the state; the network's estimate of the clean sample; "
        f"the finished sample noised to that time. {_settings(params, sampler)}"
    )
    text = GridText("From noise to samples", note, rows, [f"{t:.2g}" for t in times], _TIME)
    save_grid(folder / "trajectory.png", states, len(times), params.figures.scale, text)
    frames = states.unflatten(0, (count, 3, len(times)))[:, :2].permute(2, 1, 0, 3, 4, 5).flatten(1, 2)
    text = GridText("From noise (t = 1) to samples (t = 0)", "", ["state at time t", "estimated sample"], names)
    save_animation(folder / "sampling.gif", frames, count, params.figures.scale, text, [f"t = {t:.2f}" for t in times])


@torch.no_grad()
def draw_trajectories(sampler: ImageSampler, count: int) -> tuple[Tensor, list[float]]:
    """Draw the first ``count`` samples over the times of the grid, from noise to data.

    Each has three rows: the state, the network's estimate of z0, and the finished sample noised to that time. Of a long
    grid, evenly spaced times are drawn.

    Returns:
        uint8 images (count * 3 * times, C, H, W), and the times.
    """
    denoiser, autoencoder, indices = sampler.denoiser, sampler.autoencoder, torch.arange(count)
    states: list[tuple[float, Tensor]] = []
    z0 = sampler.latents(indices, callback=lambda t, z: states.append((t, z)))
    states[-1] = states[-1][0], z0  # with the moments of the training latents
    noise = start_noise(sampler.seed, STAGE, indices, denoiser.latent_shape).to(z0)
    labels, config = sampler.labels[indices], sampler.config
    model = conditioned_model(denoiser, labels, config.guidance, sampler.tokens(indices), config.negative)
    steps = torch.linspace(0, len(states) - 1, min(len(states), _MAX_TIMES)).round().long().tolist()
    drawn = [states[step] for step in steps]
    backward, estimates, forward = [], [], []
    for t, z_t in drawn:
        backward.append(z_t)
        estimates.append(model.predict_at(z_t, t).z0)
        forward.append(add_noise_at(model.path, z0, noise, t))
    rows = torch.stack([torch.stack(row) for row in (backward, estimates, forward)])  # (3, times, B, *latent_shape)
    shape = autoencoder.network.noise_shape  # each sample's states are decoded from that sample's own noise
    own = None if shape is None else noise_for_index(shape, indices).repeat_interleave(rows.shape[:2].numel(), dim=0)
    images = autoencoder.decode(sampler.stats.normalizer.restore(rows.movedim(2, 0).flatten(0, 2)), own)
    return images, [t for t, _ in drawn]
