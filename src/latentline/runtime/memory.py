"""Refuse, before any work, what exceeds this machine's memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentline.core.errors import UserError
from latentline.runtime.compute import memory_bytes
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks

_BUILT_BYTES = 4  # per parameter: float32 weights
_FORWARD_BYTES = 3 * 4  # per parameter after the forward pass: weights, AdamW's two moments
_TRAINED_BYTES = 4 * 4  # per parameter after the backward pass: gradients, too


@dataclass(frozen=True)
class ForwardPass:
    """The forward pass of a training's largest micro-batch, for the count of its activations."""

    rows: int
    """Rows of the micro-batch."""
    run: Callable[[Any, int], object]
    """(network, rows) -> any; makes its inputs itself, on torch's default device, and no larger ones than training."""
    scale: float = 1.0
    """Bytes of the activations relative to float32: 0.5 where the training computes in 16 bits."""


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
    forward: ForwardPass | None = None,
) -> None:
    """Raise UserError when the training of a network exceeds the memory of ``device``.

    Counts lower bounds: weights and optimizer, with the gradients or with what the forward pass keeps for them.

    Args:
        build: builds the network; called with torch's ``meta`` device, so that it takes no memory.
        device: where the network would train.
        section: section of params.yaml.
        settings: the settings that shape the network, for the message.
        ranks: the processes that train it.
        forward: of the training; None = activations are not counted.
    """
    try:
        with torch.device("meta"):
            network = build()
            parameters = sum(parameter.numel() for parameter in network.parameters())
    except RuntimeError as error:  # the layer has more weights than torch can count
        raise UserError(
            f"{section}: {settings} make a layer too large for any machine ({error}); expected less; lower a width"
        ) from None
    shards = ranks.count if ranks.sharded else 1
    require_memory(
        max(_BUILT_BYTES, _TRAINED_BYTES // shards) * parameters,
        device,
        f"{section}: {settings} make a network that needs at least",
        "lower a width or a depth",
    )
    if forward is not None:
        activations = int(forward.scale * activation_bytes(network, forward))
        require_memory(
            _FORWARD_BYTES // shards * parameters + activations,
            device,
            f"{section}: {settings} train on {forward.rows} rows at a time with at least "
            f"{activations / 2**30:.1f} GiB of activations and in all",
            f"raise {section}.optimizer.accumulate, or lower {section}.optimizer.batch_size, a width or a depth",
        )


def activation_bytes(network: nn.Module, forward: ForwardPass) -> int:
    """Return the bytes that a forward pass in float32 keeps for the backward pass, without the network's weights.

    Nothing is allocated for a network on the ``meta`` device, and no random number is drawn.
    """
    own = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}  # by storage; holds the tensors, so that none gets the place of another

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(_storage(tensor), tensor)
        return tensor

    saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), torch.device("meta"), _FusedAttention(), saved:
        result = forward.run(network, forward.rows)  # its graph keeps what it saved
    del result
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _FusedAttention(TorchFunctionMode):
    """Attention as devices compute it. On ``meta`` torch would count the matrix of all pairs, which none keeps."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
        return function(*args, **(kwargs or {}))
