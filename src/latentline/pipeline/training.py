"""From knobs to the arguments of ``training.loop.fit``."""

from typing import Any

from latentline.params.optimizer import OptimizerParams
from latentline.runtime.resume import ResumeFile
from latentline.training.loop import Optimizer, Saving


def optimizer_of(knobs: OptimizerParams) -> Optimizer:
    """The loop's view of an ``optimizer`` section."""
    return Optimizer(**knobs.model_dump(exclude={"batch_size"}))


def saving_of(stage: str, knobs: dict[str, Any], inputs: dict[str, Any], every_seconds: float) -> Saving:
    """State of ``stage`` under a key of its knobs and of what it reads."""
    return Saving(ResumeFile(stage, {"knobs": knobs, "inputs": inputs}), every_seconds)
