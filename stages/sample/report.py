"""Metrics and figures of the samples: cost, grid, trajectories."""

import torch
from torch import Tensor

from latentline.autoencoders.load import noise_for_index
from latentline.core.files import replaced_folder, write_metrics
from latentline.core.paths import FIGURES, GENERATED, METRICS
from latentline.core.seeds import start_noise
from latentline.data.samples import read_samples
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.path import add_noise_at
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.figures.plots import write_table
from latentline.samplers.registry import network_evaluations
from stages.sample.draw import STAGE, ImageSampler
from stages.sample.params import SampleParams

_TRAJECTORIES = 4
_MAX_TIMES = 13  # of a trajectory


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
        save_grid(folder / "grid.png", images[shown], columns, figures.scale)
        if prompts:
            rows = [(number // columns, number % columns, index) for number, index in enumerate(shown.tolist())]
            captions = [
                {"row": row, "column": column, "prompt": prompts[index % len(prompts)]} for row, column, index in rows
            ]
            write_table(folder / "prompts.csv", captions)
        count = min(_TRAJECTORIES, params.count)
        states = draw_trajectories(sampler, count)
        save_grid(folder / "trajectory.png", states, len(states) // (3 * count), figures.scale)


@torch.no_grad()
def draw_trajectories(sampler: ImageSampler, count: int) -> Tensor:
    """Draw the first ``count`` samples over the times of the grid, from noise to data.

    Each has three rows: the state, the network's estimate of z0, and the finished sample noised to that time. Of a long
    grid, evenly spaced times are drawn.

    Returns:
        uint8 images (count * 3 * times, C, H, W).
    """
    denoiser, autoencoder, indices = sampler.denoiser, sampler.autoencoder, torch.arange(count)
    states: list[tuple[float, Tensor]] = []
    z0 = sampler.latents(indices, callback=lambda t, z: states.append((t, z)))
    noise = start_noise(sampler.seed, STAGE, indices, denoiser.latent_shape).to(z0)
    labels, config = sampler.labels[indices], sampler.config
    model = conditioned_model(denoiser, labels, config.guidance, sampler.tokens(indices), config.negative)
    steps = torch.linspace(0, len(states) - 1, min(len(states), _MAX_TIMES)).round().long().tolist()
    backward, estimates, forward = [], [], []
    for t, z_t in (states[step] for step in steps):
        backward.append(z_t)
        estimates.append(model.predict_at(z_t, t).z0)
        forward.append(add_noise_at(model.path, z0, noise, t))
    rows = torch.stack([torch.stack(row) for row in (backward, estimates, forward)])  # (3, times, B, *latent_shape)
    shape = autoencoder.network.noise_shape  # each sample's states are decoded from that sample's own noise
    own = None if shape is None else noise_for_index(shape, indices).repeat_interleave(rows.shape[:2].numel(), dim=0)
    return autoencoder.decode(sampler.stats.normalizer.restore(rows.movedim(2, 0).flatten(0, 2)), own)
