"""RePaint: fill a part of the data given the rest, with any model (Lugmayr et al., arXiv 2201.09865, algorithm 1)."""

import torch
from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Times, integrate
from latentline.samplers.ddpm import ddpm
from latentline.samplers.posterior import posterior


def repaint(
    model: DenoiserModel,
    z: Tensor,
    times: Times,
    callback: Callback | None = None,
    *,
    noise_fn: NoiseFn,
    z0: Tensor,
    fill: Tensor,
    resamplings: int,
    jump: int = 1,
) -> Tensor:
    """Return z0 (B, ...) with new values where ``fill``, and its own elsewhere.

    After each step of ``ddpm`` the kept part is z0 with fresh noise. The filled part was drawn without it, so the two
    disagree. Resampling adds the noise of ``jump`` steps again and repeats them, which brings both parts into agreement
    (section 4.2). The steps have the variance ``beta``: with ``posterior`` every repetition makes the filled part less
    varied. K steps with jump 1 take K + (resamplings - 1) (K - 1) evaluations of the network.

    Args:
        model: the network.
        z: noise (B, ...), the state at ``times[0]``.
        times: (K + 1,), falling to 0.
        callback: receives each state, those of repeated steps too.
        noise_fn: transition -> (B, ...), counted along :func:`schedule`.
        z0: data (B, ...); its values where ``fill`` have no effect.
        fill: bool, broadcasts over z0; True = to fill.
        resamplings: how often each step is taken, r of the paper's section 5; 1 = none is repeated.
        jump: steps that are taken before they are repeated, j of that section.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        noise, end = noise_fn(index), model.path.at_time(after)
        if after > now:
            here = model.path.at_time(now)
            return end.alpha / here.alpha * z + posterior(end, here).beta.sqrt() * noise
        filled = ddpm(model, z, (now, after), noise_fn=lambda _: noise, variance="beta")
        kept = end.alpha * z0 + end.sigma * noise  # noise of other positions than ``filled``
        return torch.where(fill, filled, kept)

    return integrate(step, z, [float(times[index]) for index in schedule(len(times) - 1, resamplings, jump)], callback)


def schedule(steps: int, resamplings: int, jump: int) -> list[int]:
    """Return the indices of a grid's times in the order in which RePaint visits them, from 0 (noise) to ``steps``.

    An index below the one before it is a jump back. The order is that of the authors' code: blocks of ``jump`` steps
    are counted upwards from the last step, which leads to the data and is not repeated.
    """
    order = [0]
    for end in range(1, steps + 1):
        order.append(end)
        start, last = end - jump, steps - 1
        if start >= 0 and end <= last and (last - end) % jump == 0:
            order += (resamplings - 1) * list(range(start, end + 1))
    return order
