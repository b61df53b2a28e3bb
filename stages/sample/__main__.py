"""Stage ``sample``: draw images, classes in turn where there are any."""

import logging
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder, noise_for_index
from latentline.core.files import digests, replaced_folder, write_metrics
from latentline.core.labels import LabelTable
from latentline.core.load_params import load
from latentline.core.paths import DENOISER, FIGURES, GENERATED, LATENT_LABELS, LATENT_STATS, METRICS
from latentline.core.seeds import start_noise
from latentline.core.stage import run_stage
from latentline.core.timing import record_timing
from latentline.data.samples import read_samples, write_samples
from latentline.denoisers.conditioning import labels_for_samples
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.denoisers.sampling import SamplingConfig, conditioned_model, draw_latents
from latentline.diffusion.path import add_noise
from latentline.diffusion.time_grid import build_time_grid
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.latents.cache import LatentStats, read_labels, read_stats
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import init_distributed
from latentline.runtime.resumable_map import Chunk, ResumableMap, resumable_map
from latentline.runtime.resume import ResumeFile
from latentline.samplers.registry import SamplerOptions, build_sampler, network_evaluations, require_serves
from stages.sample.params import SampleParams

STAGE = "sample"
_TRAJECTORIES = 4
_MOST_TIMES = 13  # of a trajectory

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``sample``, the checkpoints and the latent statistics; write data/generated, fig/sample and metrics/sample.json."""
    params, seed, compute = load("sample", SampleParams)
    device, ranks = init_distributed(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    autoencoder = load_autoencoder(device)
    stats = read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(device, stats)
    plan = _plan(params, denoiser)

    labels = labels_for_samples(read_labels(stats.schema), params.count)
    inputs = {"seed": seed, "autoencoder": autoencoder.sha256, **digests([DENOISER, LATENT_STATS, LATENT_LABELS])}
    state = ResumeFile(STAGE, {"settings": params.model_dump(), "inputs": inputs}, [f"stages.{STAGE}.__main__"])
    started = time.monotonic()
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        drawn = _draw(params, plan, seed, autoencoder, denoiser, stats, labels, chunks)
        write_samples(GENERATED, drawn, labels.select(denoiser.conditioning.names), autoencoder.sha256)
    record_timing(
        STAGE, images_per_second=min(chunks.computed * params.batch_size, params.count) / (time.monotonic() - started)
    )
    evaluations = network_evaluations(params.sampler, plan.times, plan.guidance)
    write_metrics(METRICS / "sample.json", {"count": params.count, "network_evaluations": evaluations})
    with replaced_folder(FIGURES / "sample") as folder:
        figures, images = params.figures, read_samples(GENERATED, autoencoder.sha256).images
        kinds = min(len(stats.classes) or figures.height, params.count)
        columns = min(figures.width, params.count // kinds)  # of each class as many as of the last
        save_grid(folder / "grid.png", images[turns_as_rows(kinds, figures.height, columns)], columns, figures.scale)
        states = _trajectory(plan, seed, autoencoder, denoiser, stats, labels[:_TRAJECTORIES])
        save_grid(folder / "trajectory.png", states, len(states) // (3 * len(labels[:_TRAJECTORIES])), figures.scale)
    state.finish()


def _plan(params: SampleParams, denoiser: Denoiser) -> SamplingConfig:
    """How to draw. Raises UserError when the sampler cannot serve the process that the denoiser was trained for."""
    require_serves(params.sampler, denoiser.process.path.name, denoiser.process.prediction)
    scale = denoiser.conditioning.guidance(params.guidance_scale, "sample.guidance_scale")
    sampler_knobs = SamplerOptions(params.eta, params.variance, params.sigma_scale, params.diffusion)
    return SamplingConfig(
        partial(build_sampler, params.sampler, sampler_knobs),
        build_time_grid(params.time_grid, params.steps, denoiser.process.path, params.time_shift),
        Guidance(scale, params.guidance_start, params.guidance_end, params.guidance_rescale),
    )


def _draw(
    params: SampleParams,
    plan: SamplingConfig,
    seed: int,
    autoencoder: TrainedAutoencoder,
    denoiser: Denoiser,
    stats: LatentStats,
    labels: LabelTable,
    chunks: ResumableMap,
) -> Iterator[Tensor]:
    """uint8 images (B, C, H, W), ``count`` in all, each batch drawn when it is asked for, unless an earlier run has drawn it."""
    batches = torch.arange(params.count).split(params.batch_size)

    def draw(number: int) -> Chunk:
        indices = batches[number]
        z0 = draw_latents(denoiser, plan, seed, STAGE, indices, labels[indices])
        return {"images": autoencoder.decode(stats.normalizer.restore(z0), first=int(indices[0]))}

    drawn = chunks.map(len(batches), draw)
    return (chunk["images"] for chunk in tqdm(drawn, total=len(batches), desc=STAGE, disable=None))


@torch.no_grad()
def _trajectory(
    plan: SamplingConfig,
    seed: int,
    autoencoder: TrainedAutoencoder,
    denoiser: Denoiser,
    stats: LatentStats,
    labels: LabelTable,
) -> Tensor:
    """For the first samples three rows over the grid's times, noise to data: the state, the z0 it points to, the finished sample noised anew.

    Of a long grid, evenly chosen times.
    """
    indices = torch.arange(len(labels))
    states: list[tuple[float, Tensor]] = []
    z0 = draw_latents(denoiser, plan, seed, STAGE, indices, labels, callback=lambda t, z: states.append((t, z)))
    noise = start_noise(seed, STAGE, indices, denoiser.latent_shape).to(z0)
    model = conditioned_model(denoiser, labels, plan.guidance)
    shown = torch.linspace(0, len(states) - 1, min(len(states), _MOST_TIMES)).round().long().tolist()
    backward, estimates, forward = [], [], []
    for t, z_t in (states[place] for place in shown):
        backward.append(z_t)
        estimates.append(model.predict_at(z_t, t).z0)
        forward.append(add_noise(z0, noise, model.path(z0.new_full((len(z0),), t))))
    rows = torch.stack([torch.stack(kind) for kind in (backward, estimates, forward)])  # (3, times, B, *latent_shape)
    shape = autoencoder.network.noise_shape  # each sample's states are decoded from that sample's own noise
    own = None if shape is None else noise_for_index(shape, indices).repeat_interleave(rows.shape[:2].numel(), dim=0)
    return autoencoder.decode(stats.normalizer.restore(rows.movedim(2, 0).flatten(0, 2)), own)


if __name__ == "__main__":
    run_stage("sample", main)
