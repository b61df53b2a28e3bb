"""Random numbers that follow from (seed, names) alone, never from earlier draws.

So a run that is killed and resumed draws the same numbers as one that is not. Sample 17 is the same for any batch size.
"""

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed from ``seed`` and a path of names, e.g. ``derive_seed(0, "denoiser", "noise", step)``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a generator seeded by :func:`derive_seed`, on the CPU, so that every device gets the same numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def start_noise(seed: int, name: str, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return standard normal noise (B, *shape) for indices (B,); row i follows from (seed, name, indices[i]) alone."""
    return torch.stack([torch.randn(shape, generator=generator(seed, name, index)) for index in indices.tolist()])
