"""Randomness is derived from (seed, names), never from what was drawn before.

A run that is killed at step 1,000 and continued draws at step 1,001 what it would have drawn anyway, and sample 17 is the
same whatever the batch size.
"""

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed from ``seed`` and a path of names, e.g. ``derive_seed(0, "denoiser", "noise", step)``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`. On the CPU so that every device draws the same numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def start_noise(seed: int, name: str, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (len(indices), *shape), row i from (seed, name, indices[i]) alone."""
    return torch.stack([torch.randn(shape, generator=generator(seed, name, index)) for index in indices.tolist()])
