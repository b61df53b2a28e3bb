"""Trajectories of a trained denoiser, which a flow map learns (:mod:`latentline.diffusion.flow_map`)."""

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.core.seeds import start_noise
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.flow_map import TRAJECTORY_TIMES
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.unipc import unipc
from latentline.runtime.compute import channels_last
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import Precision, inference
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.params import FlowMapParams

_NAME = "train_denoiser/trajectories"  # of their noise
_BATCH = 500


def draw_trajectories(
    teacher: Denoiser, params: FlowMapParams, latents: Latents, seed: int, ranks: Ranks, precision: Precision
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
        ranks: the processes that share the work; all return all trajectories.
        precision: of the teacher's products and convolutions.
    """
    scale = teacher.conditioning.guidance(params.guidance_scale, "denoiser.flow_map.guidance_scale")
    guidance = Guidance(scale, params.guidance_start, params.guidance_end, early=True)
    times = time_grid(params.steps)
    own, parts = ranks.slice_of(params.trajectories), []
    disable = None if ranks.is_main else True
    for start in tqdm(range(own.start, own.stop, _BATCH), desc="trajectories", disable=disable, mininterval=1):
        indices = torch.arange(start, min(start + _BATCH, own.stop))
        rows = indices % len(latents)
        states: list[Tensor] = []

        def keep(t: float, z: Tensor, states: list[Tensor] = states) -> None:
            if t in TRAJECTORY_TIMES:
                states.append(z.half())

        tokens = None if latents.tokens is None else latents.tokens[rows]
        noise = channels_last(start_noise(seed, _NAME, indices, teacher.latent_shape).to(teacher.device))
        with torch.no_grad(), inference(teacher.device, precision, "denoiser.optimizer.precision"):
            model = conditioned_model(teacher, latents.labels[rows], guidance, tokens)
            unipc(model, noise, times, keep)
            predicted = model.predict_at(noise, 1.0).z0
        parts.append(torch.stack([*states, predicted.half()], dim=1))  # (B, 4, *latent_shape)
    return ranks.all_gather(torch.cat(parts), params.trajectories).to(teacher.device)
