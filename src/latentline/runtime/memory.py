"""Refuse, before any work, what this machine's memory cannot hold."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.runtime.compute import memory_bytes
from latentline.runtime.parallel import ALONE, Ranks

_BUILT = 4  # bytes per parameter: float32 weights
_TRAINED = 4 * 4  # and gradients, and AdamW's two moments


def require_memory(needed: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise UserError when ``needed`` bytes are more than all memory of ``device``; ``what`` names the knob and what needs them."""
    if needed > (there := memory_bytes(device)):
        raise UserError(f"{what} {needed / 2**30:.1f} GiB of memory; expected at most the {there / 2**30:.1f} GiB of this machine; {remedy}")


def require_trainable(build: Callable[[], nn.Module], device: torch.device, section: str, knobs: dict[str, Any], ranks: Ranks = ALONE) -> None:
    """Raise UserError when the network cannot be trained in the memory of ``device``. It is built without memory for its weights.

    Args:
        build: makes it.
        device: where it would train.
        section: of params.yaml.
        knobs: that shape it.
        ranks: the processes that train it.
    """
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build().parameters())
    except RuntimeError as error:  # more weights in one layer than can be counted
        raise UserError(f"{section}: {knobs} make a layer too large for any machine ({error}); expected less; lower a width") from None
    each = max(_BUILT, _TRAINED // ranks.count) if ranks.sharded else _TRAINED
    require_memory(each * parameters, device, f"{section}: {knobs} make a network that needs at least", "lower a width or a depth")
