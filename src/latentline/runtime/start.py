"""The first act of a stage that computes with torch."""

import torch

from latentline.core.compute_params import ComputeParams
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import Ranks, init_distributed


def start(compute: ComputeParams, strategy: str = "ddp") -> tuple[torch.device, Ranks]:
    """Set up this process as section ``compute`` says, and connect it with the others of the run.

    Args:
        compute: the section.
        strategy: ``compute.strategy``, where the stage can shard the weights that it trains.

    Returns:
        This process's own device, and the ranks.

    Raises:
        UserError: this machine has no such device, or settings, devices and environment contradict each other.
    """
    device = set_up(compute.device, compute.threads, compute.deterministic)
    return init_distributed(device, compute.devices, compute.nodes, strategy)
