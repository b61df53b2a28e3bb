"""Stage ``sample``: draw images, classes in turn where there are any."""

import logging
import time

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.common.arrays import save_arrays
from latentline.common.column import CLASS
from latentline.common.files import replaced_folder, write_metrics
from latentline.diffusion.guidance import evaluations_per_call, guided_velocity
from latentline.diffusion.path import add_noise, flow_path
from latentline.diffusion.prediction import from_velocity
from latentline.diffusion.samplers.registry import get_sampler
from latentline.diffusion.time_grid import time_grid
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.latents.cache import LatentStats, read_known, read_stats
from latentline.params.load import load
from latentline.params.sample import SampleParams
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.conditions import Conditions, values_in_turn
from latentline.pipeline.denoiser import TrainedDenoiser, load_denoiser
from latentline.pipeline.paths import FIGURES, GENERATED, LATENT_KNOWN, LATENT_STATS, METRICS
from latentline.pipeline.sampling import draw_latents, start_noise
from latentline.runtime.compute import set_up
from latentline.runtime.timing import record_timing

STAGE = "sample"
_TRAJECTORIES = 4
_ROWS = 10  # of the grid where there are no classes

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``sample``, the checkpoints and the latent statistics; write data/generated, fig/sample and metrics/sample.json."""
    knobs, seed, compute = load("sample", SampleParams)
    device = set_up(compute.device, compute.threads)
    codec = load_codec(device)
    stats = read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    denoiser = load_denoiser(device, stats)
    scale = denoiser.conditions.guidance(knobs.guidance_scale, "sample.guidance_scale")
    knobs = knobs.model_copy(update={"guidance_scale": scale})

    values = values_in_turn(stats.columns, read_known(LATENT_KNOWN), knobs.count)  # (count, A)
    started = time.monotonic()
    images = _draw(knobs, seed, codec, denoiser, stats, values)
    record_timing(STAGE, images_per_second=knobs.count / (time.monotonic() - started))
    with replaced_folder(GENERATED) as folder:
        told = _told(denoiser.conditions, values)
        save_arrays(
            folder / "samples-00000.safetensors",
            {"images": images, **told},
            {"kind": "samples", "autoencoder": codec.sha256, "condition": denoiser.conditions.names},
        )
    evaluations = knobs.steps * get_sampler(knobs.sampler)[1] * evaluations_per_call(knobs.guidance_scale)
    write_metrics(METRICS / "sample.json", {"count": knobs.count, "network_evaluations": evaluations})
    with replaced_folder(FIGURES / "sample") as folder:
        rows = min(len(stats.classes) or _ROWS, knobs.count)
        columns = min(knobs.grid_per_class, knobs.count // rows)  # of each class as many as of the last
        save_grid(folder / "grid.png", images[turns_as_rows(rows, columns)], columns, scale=2)
        states = _trajectory(knobs, seed, codec, denoiser, stats, values[:_TRAJECTORIES])
        save_grid(folder / "trajectory.png", states, columns=knobs.steps + 1, scale=2)


def _draw(knobs: SampleParams, seed: int, codec: TrainedCodec, denoiser: TrainedDenoiser, stats: LatentStats, values: Tensor) -> Tensor:
    """uint8 images (count, C, H, W)."""
    sampler, _ = get_sampler(knobs.sampler)
    times = time_grid(knobs.steps, knobs.time_shift)
    images = []
    for indices in tqdm(torch.arange(knobs.count).split(knobs.batch_size), desc=STAGE, disable=None):
        z0 = draw_latents(
            denoiser.network,
            sampler,
            start_noise(seed, STAGE, indices, denoiser.latent_shape).to(codec.device),
            denoiser.conditions.encode(values[indices]).to(codec.device),
            times=times,
            guidance_scale=knobs.guidance_scale,
        )
        images.append(codec.decode(stats.normalizer.restore(z0)))
    return torch.cat(images)


def _told(conditions: Conditions, values: Tensor) -> dict[str, Tensor]:
    """What the samples were drawn for: labels int64 (N,), attributes float32 (N, A), or neither."""
    told = values[:, list(conditions.places)]
    if CLASS not in conditions.names:
        return {"attributes": told} if conditions.columns else {}
    return {"labels": told[:, 0].long()} | ({"attributes": told[:, 1:]} if len(conditions.columns) > 1 else {})


def _trajectory(knobs: SampleParams, seed: int, codec: TrainedCodec, denoiser: TrainedDenoiser, stats: LatentStats, values: Tensor) -> Tensor:
    """For the first samples three rows over the grid's times, noise to data: the state, the z0 it points to, the finished sample noised anew."""
    sampler, _ = get_sampler(knobs.sampler)
    condition = denoiser.conditions.encode(values).to(codec.device)
    noise = start_noise(seed, STAGE, torch.arange(len(values)), denoiser.latent_shape).to(codec.device)
    states: list[tuple[float, Tensor]] = []
    z0 = draw_latents(
        denoiser.network,
        sampler,
        noise,
        condition,
        times=time_grid(knobs.steps, knobs.time_shift),
        guidance_scale=knobs.guidance_scale,
        on_step=lambda t, z: states.append((t, z)),
    )
    velocity = guided_velocity(denoiser.network, condition, knobs.guidance_scale)
    backward, estimates, forward = [], [], []
    for t, z_t in states:
        times = z_t.new_full((len(values),), t)
        point = flow_path(times)
        with torch.no_grad():
            estimates.append(from_velocity(z_t, velocity(z_t, times), point).z0)
        backward.append(z_t)
        forward.append(add_noise(z0, noise, point))
    rows = torch.stack([torch.stack(kind) for kind in (backward, estimates, forward)])  # (3, K + 1, B, *latent_shape)
    return codec.decode(stats.normalizer.restore(rows.movedim(2, 0).flatten(0, 2)))
