"""Arguments of ``training.loop.fit`` from settings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from latentline.core.compute_params import ComputeParams
from latentline.core.shards import ShardedArray
from latentline.core.timing import record_timing
from latentline.runtime.compute import memory_bytes
from latentline.runtime.resume import ResumeFile
from latentline.runtime.trackers import Trackers
from latentline.training.loop import Saving
from latentline.training.optimizer import Optimizer
from latentline.training.params import OptimizerParams
from latentline.training.progress import Speed
from latentline.training.step_inputs import RowSource

_MOST_BYTES = 2 << 30  # of images or latents that are held in memory
_SHARE_OF_A_GPU = 4  # a quarter of its memory may hold them


def optimizer_of(params: OptimizerParams) -> Optimizer:
    """Return the loop's optimizer settings from an ``optimizer`` section."""
    return Optimizer(**params.model_dump(exclude={"batch_size", "accumulate"}))


def resident(rows: ShardedArray, device: torch.device) -> RowSource:
    """Return training images or latents as a source of batches.

    Arrays of at most 2 GiB, or a quarter of a GPU's memory, are loaded to ``device``. Larger ones stay on disk and are
    read at every step.
    """
    most = max(_MOST_BYTES, memory_bytes(device) // _SHARE_OF_A_GPU) if device.type != "cpu" else _MOST_BYTES
    return RowSource(rows.to_memory().to(device) if rows.nbytes <= most else rows)


def saving_of(
    stage: str,
    params: dict[str, Any],
    inputs: dict[str, Any],
    compute: ComputeParams,
    *,
    computed_by: Sequence[str],
    part: str = "",
) -> Saving:
    """Return where a training of ``stage`` saves its state; its speed goes to metrics/timing.json.

    Without ``epochs`` among ``params`` a longer run may continue a shorter one.

    Args:
        stage: DVC stage.
        params: its settings.
        inputs: digests of what it reads, and the seed.
        compute: how often to save, what to keep, and the trackers.
        computed_by: names of the modules that build and train the network; see :class:`ResumeFile`.
        part: name of this training, where the stage has several.

    Raises:
        UserError: a tracker's package is missing.
    """
    keep_bytes = int(compute.keep_states_gib * 2**30)
    file = ResumeFile(stage, {"settings": params, "inputs": inputs}, computed_by, part, keep_bytes)
    trackers = Trackers(compute.trackers, stage, params)
    record = partial(_record_speed, stage, f"{part}_" if part and part != stage.removeprefix("train_") else "")
    return Saving(file, compute.save_every_seconds, trackers, "epochs" not in params, record)


def _record_speed(stage: str, prefix: str, speed: Speed) -> None:
    record_timing(stage, **{prefix + name: value for name, value in speed.items()})
