"""Stage ``sample``: draw images, classes in turn where there are any."""

import logging
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.common.files import digests, replaced_folder, write_metrics
from latentline.common.seeds import start_noise
from latentline.diffusion.guidance import Guidance
from latentline.diffusion.path import add_noise
from latentline.diffusion.samplers.registry import SamplerKnobs, build_sampler, network_evaluations, require_serves
from latentline.diffusion.time_grid import build_time_grid
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.latents.cache import LatentStats, read_known, read_stats
from latentline.params.load import load
from latentline.params.sample import SampleParams
from latentline.pipeline.codec import TrainedCodec, load_codec, numbered_noise
from latentline.pipeline.conditions import values_in_turn
from latentline.pipeline.denoiser import Denoiser, load_denoiser
from latentline.pipeline.generated import read_generated, write_generated
from latentline.pipeline.paths import DENOISER, FIGURES, GENERATED, LATENT_KNOWN, LATENT_STATS, METRICS
from latentline.pipeline.sampling import Plan, draw_latents, told_model
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import join
from latentline.runtime.pieces import Piece, Pieces, kept_pieces
from latentline.runtime.resume import ResumeFile
from latentline.runtime.timing import record_timing

STAGE = "sample"
_TRAJECTORIES = 4
_MOST_TIMES = 13  # of a trajectory

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``sample``, the checkpoints and the latent statistics; write data/generated, fig/sample and metrics/sample.json."""
    knobs, seed, compute = load("sample", SampleParams)
    device, ranks = join(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    codec = load_codec(device)
    stats = read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    denoiser = load_denoiser(device, stats)
    plan = _plan(knobs, denoiser)

    values = values_in_turn(stats.columns, read_known(LATENT_KNOWN), knobs.count)  # (count, A)
    inputs = {"seed": seed, "autoencoder": codec.sha256, **digests([DENOISER, LATENT_STATS, LATENT_KNOWN])}
    state = ResumeFile(STAGE, {"settings": knobs.model_dump(), "inputs": inputs}, [__name__])
    started = time.monotonic()
    with kept_pieces(state, compute.save_every_seconds, ranks) as pieces:
        drawn = _draw(knobs, plan, seed, codec, denoiser, stats, values, pieces)
        write_generated(GENERATED, drawn, values, denoiser.conditions, codec.sha256)
    record_timing(STAGE, images_per_second=min(pieces.made * knobs.batch_size, knobs.count) / (time.monotonic() - started))
    evaluations = network_evaluations(knobs.sampler, plan.times, plan.guidance)
    write_metrics(METRICS / "sample.json", {"count": knobs.count, "network_evaluations": evaluations})
    with replaced_folder(FIGURES / "sample") as folder:
        figures, images = knobs.figures, read_generated(GENERATED, codec.sha256)[0].images
        kinds = min(len(stats.classes) or figures.height, knobs.count)
        columns = min(figures.width, knobs.count // kinds)  # of each class as many as of the last
        save_grid(folder / "grid.png", images[turns_as_rows(kinds, figures.height, columns)], columns, figures.scale)
        states = _trajectory(plan, seed, codec, denoiser, stats, values[:_TRAJECTORIES])
        save_grid(folder / "trajectory.png", states, len(states) // (3 * len(values[:_TRAJECTORIES])), figures.scale)
    state.finish()


def _plan(knobs: SampleParams, denoiser: Denoiser) -> Plan:
    """How to draw. Raises UserError when the sampler cannot serve the process that the denoiser was trained for."""
    require_serves(knobs.sampler, denoiser.process.path.name, denoiser.process.prediction)
    scale = denoiser.conditions.guidance(knobs.guidance_scale, "sample.guidance_scale")
    sampler_knobs = SamplerKnobs(knobs.eta, knobs.variance, knobs.sigma_scale, knobs.diffusion)
    return Plan(
        partial(build_sampler, knobs.sampler, sampler_knobs),
        build_time_grid(knobs.time_grid, knobs.steps, denoiser.process.path, knobs.time_shift),
        Guidance(scale, knobs.guidance_start, knobs.guidance_end, knobs.guidance_rescale),
    )


def _draw(
    knobs: SampleParams, plan: Plan, seed: int, codec: TrainedCodec, denoiser: Denoiser, stats: LatentStats, values: Tensor, pieces: Pieces
) -> Iterator[Tensor]:
    """uint8 images (B, C, H, W), ``count`` in all, each batch drawn when it is asked for, unless an earlier run has drawn it."""
    batches = torch.arange(knobs.count).split(knobs.batch_size)

    def draw(number: int) -> Piece:
        indices = batches[number]
        z0 = draw_latents(denoiser, plan, seed, STAGE, indices, values[indices])
        return {"images": codec.decode(stats.normalizer.restore(z0), first=int(indices[0]))}

    drawn = pieces.each(len(batches), draw)
    return (piece["images"] for piece in tqdm(drawn, total=len(batches), desc=STAGE, disable=None))


@torch.no_grad()
def _trajectory(plan: Plan, seed: int, codec: TrainedCodec, denoiser: Denoiser, stats: LatentStats, values: Tensor) -> Tensor:
    """For the first samples three rows over the grid's times, noise to data: the state, the z0 it points to, the finished sample noised anew.

    Of a long grid, evenly chosen times.
    """
    indices = torch.arange(len(values))
    states: list[tuple[float, Tensor]] = []
    z0 = draw_latents(denoiser, plan, seed, STAGE, indices, values, on_step=lambda t, z: states.append((t, z)))
    noise = start_noise(seed, STAGE, indices, denoiser.latent_shape).to(z0)
    model = told_model(denoiser, values, plan.guidance)
    shown = torch.linspace(0, len(states) - 1, min(len(states), _MOST_TIMES)).round().long().tolist()
    backward, estimates, forward = [], [], []
    for t, z_t in (states[place] for place in shown):
        backward.append(z_t)
        estimates.append(model.at(z_t, t).z0)
        forward.append(add_noise(z0, noise, model.path(z0.new_full((len(z0),), t))))
    rows = torch.stack([torch.stack(kind) for kind in (backward, estimates, forward)])  # (3, times, B, *latent_shape)
    shape = codec.codec.noise_shape  # each sample's states are decoded from that sample's own noise
    own = None if shape is None else numbered_noise(shape, indices).repeat_interleave(rows.shape[:2].numel(), dim=0)
    return codec.decode(stats.normalizer.restore(rows.movedim(2, 0).flatten(0, 2)), own)
