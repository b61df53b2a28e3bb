"""Refuse, before any work, what exceeds this machine's memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.runtime.compute import memory_bytes
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks

_BUILT_BYTES = 4  # per parameter: float32 weights
_TRAINED_BYTES = 4 * 4  # per parameter: weights, gradients, AdamW's two moments


def require_memory(needed: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise UserError when ``needed`` bytes exceed all memory of ``device``.

    Args:
        needed: bytes.
        device: the device.
        what: beginning of the message: the setting, its value and a verb.
        remedy: end of the message.
    """
    if needed > (available := memory_bytes(device)):
        limit = f"expected at most the {available / 2**30:.1f} GiB of this machine"
        raise UserError(f"{what} {needed / 2**30:.1f} GiB of memory; {limit}; {remedy}")


def require_trainable(
    build: Callable[[], nn.Module],
    device: torch.device,
    section: str,
    settings: dict[str, Any],
    ranks: Ranks = SINGLE_PROCESS,
) -> None:
    """Raise UserError when the training of a network exceeds the memory of ``device``.

    Args:
        build: builds the network; called with torch's ``meta`` device, so that it takes no memory.
        device: where the network would train.
        section: section of params.yaml.
        settings: the settings that shape the network, for the message.
        ranks: the processes that train it.
    """
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build().parameters())
    except RuntimeError as error:  # the layer has more weights than torch can count
        raise UserError(
            f"{section}: {settings} make a layer too large for any machine ({error}); expected less; lower a width"
        ) from None
    each = max(_BUILT_BYTES, _TRAINED_BYTES // ranks.count) if ranks.sharded else _TRAINED_BYTES
    require_memory(
        each * parameters,
        device,
        f"{section}: {settings} make a network that needs at least",
        "lower a width or a depth",
    )
