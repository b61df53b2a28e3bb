"""Gradient checkpointing: less memory in training, for one more forward pass of each block."""

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

_LISTS = (nn.ModuleList, nn.Sequential)


def checkpoint_blocks(network: nn.Module) -> None:
    """Keep only the inputs of each block of ``network`` for the backward pass, which computes the rest again.

    The same operations give the same numbers, so that gradients are equal to the bit (Chen et al., arXiv 1604.06174,
    section 3). Blocks draw no random numbers. Without gradients, nothing changes.

    Args:
        network: changed in place; its weights and their names stay.
    """
    for block in _blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield each entry of an outermost list of modules that consists of layers itself; a single layer saves nothing."""
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from (entry for entry in child if next(entry.children(), None) is not None)
        else:
            yield from _blocks(child)
