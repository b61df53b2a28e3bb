"""Name -> sampler."""

from collections.abc import Callable

from torch import Tensor

from latentline.diffusion.samplers import euler, heun

_KINDS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "euler": (euler.euler, euler.EVALUATIONS_PER_STEP),
    "heun": (heun.heun, heun.EVALUATIONS_PER_STEP),
}


def get_sampler(name: str) -> tuple[Callable[..., Tensor], int]:
    """(sampler, velocity evaluations per step) of ``sample.sampler``."""
    return _KINDS[name]
