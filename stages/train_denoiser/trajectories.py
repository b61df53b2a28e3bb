"""Trajectories of a trained denoiser, which a flow map learns (:mod:`latentline.diffusion.flow_map`)."""

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import SamplingConfig, draw_latents
from latentline.diffusion.flow_map import TRAJECTORY_TIMES
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.unipc import unipc
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import Precision, inference
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.params import FlowMapParams

_NAME = "train_denoiser/trajectories"  # of their noise
_BATCH = 500


def draw_trajectories(
    teacher: Denoiser, params: FlowMapParams, latents: Latents, seed: int, ranks: Ranks, precision: Precision
) -> Tensor:
    """Return states float16 (N, 3, *latent_shape) of guided trajectories at ``TRAJECTORY_TIMES``, on the device.

    Trajectory i has noise of its own and the condition of the i-th of ``latents``. Guidance leads away from the
    teacher's early network, where it has one.

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
    config = SamplingConfig(lambda noise_fn: unipc, time_grid(params.steps), guidance)
    count = min(params.trajectories, len(latents))
    own, parts = ranks.slice_of(count), []
    disable = None if ranks.is_main else True
    for start in tqdm(range(own.start, own.stop, _BATCH), desc="trajectories", disable=disable, mininterval=1):
        rows = torch.arange(start, min(start + _BATCH, own.stop))
        states: list[Tensor] = []

        def keep(t: float, z: Tensor, states: list[Tensor] = states) -> None:
            if t in TRAJECTORY_TIMES:
                states.append(z.half())

        tokens = None if latents.tokens is None else latents.tokens[rows]
        with inference(teacher.device, precision, "denoiser.optimizer.precision"):
            draw_latents(teacher, config, seed, _NAME, rows, latents.labels[rows], keep, tokens)
        parts.append(torch.stack(states, dim=1))  # (B, 3, *latent_shape)
    return ranks.all_gather(torch.cat(parts), count).to(teacher.device)
