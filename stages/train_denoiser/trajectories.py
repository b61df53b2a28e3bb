"""Trajectories of a trained denoiser, which a flow map learns (:mod:`latentline.diffusion.flow_map`)."""

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from latentline.core.progress import with_progress
from latentline.core.seeds import start_noise
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.flow_map import TRAJECTORY_TIMES
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.unipc import unipc
from latentline.runtime.compute import channels_last
from latentline.runtime.memory import require_memory
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import Precision, inference
from latentline.runtime.resumable_map import Chunk, resumable_map
from latentline.training.loop import Saving
from stages.train_denoiser.latents import Latents, rows_without_gradients
from stages.train_denoiser.params import FlowMapParams

_NAME = "train_denoiser/trajectories"  # of their noise
_BYTES = 2  # of a float16 number


def draw_trajectories(
    teacher: Denoiser,
    params: FlowMapParams,
    latents: Latents,
    seed: int,
    saving: Saving,
    ranks: Ranks,
    precision: Precision,
) -> Tensor:
    """Return guided trajectories, float16 (N, 4, *latent_shape), on the device.

    They are the states at ``TRAJECTORY_TIMES`` and the clean latents predicted at the start. Trajectory i has noise of
    its own and the condition of latent i modulo their number. Guidance leads away from the teacher's early network,
    where it has one.

    Args:
        teacher: a trained denoiser of velocities.
        params: how many, and how they are drawn.
        latents: the training split.
        seed: of the run.
        saving: of the training. Finished batches lie in its state, so that a killed run draws only the others.
        ranks: the processes that share the work; all return all trajectories.
        precision: of the teacher's products and convolutions.

    Raises:
        UserError: they do not fit into memory, or another run of the same training is under way.
        InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
    """
    scale = teacher.conditioning.guidance(params.guidance_scale, "denoiser.flow_map.guidance_scale")
    guidance = Guidance(scale, params.guidance_start, params.guidance_end, early=True)
    times = time_grid(params.steps)
    batches = torch.arange(params.trajectories).split(rows_without_gradients(teacher.latent_shape))
    kept = (len(TRAJECTORY_TIMES) + 1, *teacher.latent_shape)
    require_memory(
        params.trajectories * math.prod(kept) * _BYTES,
        teacher.device,
        f"denoiser.flow_map.trajectories ({params.trajectories}) need",
        "lower it",
    )

    def draw(number: int) -> Chunk:
        indices = batches[number]
        rows = indices % len(latents)
        states: list[Tensor] = []
        # Half of the steps lead from one of the three times to the next.
        is_kept = itertools.cycle([True, *[False] * (params.steps // 2 - 1)])

        def keep(_: float, z: Tensor) -> None:
            if next(is_kept):
                states.append(z.half())

        tokens = None if latents.tokens is None else latents.tokens[rows]
        noise = channels_last(start_noise(seed, _NAME, indices, teacher.latent_shape).to(teacher.device))
        with torch.no_grad(), inference(teacher.device, precision, "denoiser.optimizer.precision"):
            model = _begun(conditioned_model(teacher, latents.labels[rows], guidance, tokens), noise)
            unipc(model, noise, times, keep)
            predicted = model.predict_at(noise, 1.0).z0
        batch = torch.stack([*states, predicted.half()], dim=1)  # (B, 4, *latent_shape)
        return {"trajectories": batch.cpu().contiguous()}

    own = range(len(batches))[ranks.slice_of(len(batches))]
    drawn = torch.zeros(len(own), len(batches[0]), *kept, dtype=torch.float16)  # the last batch may be smaller
    with resumable_map(saving.file, saving.every_seconds, ranks) as chunks:
        ready = chunks.count_found(own)
        for row, chunk in enumerate(
            with_progress(chunks.of(own, draw), len(own), "trajectories", ready=ready, shown=ranks.is_main)
        ):
            trajectories = chunk["trajectories"]
            drawn[row, : len(trajectories)] = trajectories
    return ranks.all_gather(drawn, len(batches)).flatten(0, 1)[: params.trajectories].to(teacher.device)


def _begun(model: DenoiserModel, noise: Tensor) -> DenoiserModel:
    """Return the model with its output at t = 1, which is that for ``noise`` (B, ...), computed once for all uses."""
    output_at = model.output_at or (lambda _: model.output)
    first = output_at(1.0)(noise, noise.new_ones(len(noise)))
    return replace(model, output_at=lambda time: (lambda *_: first) if time == 1 else output_at(time))
