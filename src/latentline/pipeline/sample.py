"""Stage ``sample``: draw images, classes in turn."""

import logging
import time

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.common.arrays import save_arrays
from latentline.common.files import replaced_folder, write_metrics
from latentline.diffusion.guidance import evaluations_per_call, guided_velocity
from latentline.diffusion.path import add_noise, flow_path
from latentline.diffusion.prediction import from_velocity
from latentline.diffusion.samplers.registry import get_sampler
from latentline.diffusion.time_grid import time_grid
from latentline.figures.grids import save_grid
from latentline.latents.cache import LatentStats, read_stats
from latentline.params.load import load
from latentline.params.sample import SampleParams
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.denoiser import TrainedDenoiser, load_denoiser
from latentline.pipeline.paths import FIGURES, GENERATED, LATENT_STATS, METRICS
from latentline.pipeline.sampling import draw_latents, start_noise
from latentline.runtime.compute import set_up
from latentline.runtime.timing import record_timing

STAGE = "sample"
_TRAJECTORY_CLASSES = 4

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``sample``, the checkpoints and the latent statistics; write data/generated, fig/sample and metrics/sample.json."""
    knobs, seed, compute = load("sample", SampleParams)
    device = set_up(compute.device, compute.threads)
    codec = load_codec(device)
    stats = read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    denoiser = load_denoiser(device, codec.sha256)

    labels = torch.arange(knobs.count) % denoiser.classes
    started = time.monotonic()
    images = _draw(knobs, seed, codec, denoiser, stats, labels)
    record_timing(STAGE, images_per_second=knobs.count / (time.monotonic() - started))
    with replaced_folder(GENERATED) as folder:
        save_arrays(folder / "samples-00000.safetensors", {"images": images, "labels": labels}, {"kind": "samples", "autoencoder": codec.sha256})
    evaluations = knobs.steps * get_sampler(knobs.sampler)[1] * evaluations_per_call(knobs.guidance_scale)
    write_metrics(METRICS / "sample.json", {"count": knobs.count, "network_evaluations": evaluations})
    with replaced_folder(FIGURES / "sample") as folder:
        columns = min(knobs.grid_per_class, max(1, knobs.count // denoiser.classes))  # of each class as many as of the last
        shown = [images[labels == label][:columns] for label in range(denoiser.classes)]
        save_grid(folder / "grid.png", torch.cat(shown), columns, scale=2)
        rows = _trajectory(knobs, seed, codec, denoiser, stats)
        save_grid(folder / "trajectory.png", rows, columns=knobs.steps + 1, scale=2)


def _draw(knobs: SampleParams, seed: int, codec: TrainedCodec, denoiser: TrainedDenoiser, stats: LatentStats, labels: Tensor) -> Tensor:
    """uint8 images (count, C, H, W)."""
    sampler, _ = get_sampler(knobs.sampler)
    times = time_grid(knobs.steps, knobs.time_shift)
    images = []
    for indices in tqdm(torch.arange(knobs.count).split(knobs.batch_size), desc=STAGE, disable=None):
        z0 = draw_latents(
            denoiser.network,
            sampler,
            start_noise(seed, STAGE, indices, denoiser.latent_shape).to(codec.device),
            labels[indices].to(codec.device),
            times=times,
            null_label=denoiser.classes,
            guidance_scale=knobs.guidance_scale,
        )
        images.append(codec.decode(stats.normalizer.restore(z0)))
    return torch.cat(images)


def _trajectory(knobs: SampleParams, seed: int, codec: TrainedCodec, denoiser: TrainedDenoiser, stats: LatentStats) -> Tensor:
    """For a few classes three rows over the grid's times, noise to data: the state, the z0 it points to, the finished sample noised anew."""
    sampler, _ = get_sampler(knobs.sampler)
    labels = torch.arange(min(_TRAJECTORY_CLASSES, denoiser.classes), device=codec.device)
    noise = start_noise(seed, STAGE, labels, denoiser.latent_shape).to(codec.device)
    states: list[tuple[float, Tensor]] = []
    z0 = draw_latents(
        denoiser.network,
        sampler,
        noise,
        labels,
        times=time_grid(knobs.steps, knobs.time_shift),
        null_label=denoiser.classes,
        guidance_scale=knobs.guidance_scale,
        on_step=lambda t, z: states.append((t, z)),
    )
    velocity = guided_velocity(denoiser.network, labels, denoiser.classes, knobs.guidance_scale)
    backward, estimates, forward = [], [], []
    for t, z_t in states:
        times = z_t.new_full((len(labels),), t)
        point = flow_path(times)
        with torch.no_grad():
            estimates.append(from_velocity(z_t, velocity(z_t, times), point).z0)
        backward.append(z_t)
        forward.append(add_noise(z0, noise, point))
    rows = torch.stack([torch.stack(kind) for kind in (backward, estimates, forward)])  # (3, K + 1, B, C, H, W)
    return codec.decode(stats.normalizer.restore(rows.permute(2, 0, 1, 3, 4, 5).flatten(0, 2)))
