"""All that changes while a network trains, in one object that is saved and restored whole."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latentline.training.ema import Ema


@dataclass
class RunState:
    """A training after ``step`` steps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the logged terms since the epoch began."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch."""

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON that :meth:`restore` takes."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
        return tensors, {"step": self.step, "sums": self.sums, "history": self.history}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Become what was saved; the networks must be built alike."""
        self.model.load_state_dict(_part(tensors, "model."))
        if self.ema:
            self.ema.model.load_state_dict(_part(tensors, "ema."))
        slots: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in _part(tensors, "optimizer.").items():
            index, slot = name.split(".", 1)
            parameter = parameters[int(index)]
            # In the parameter's own memory layout: the fused optimizer walks them together.
            matched = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape and value.ndim else value.clone()
            slots.setdefault(int(index), {})[slot] = matched
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.step, self.sums, self.history = meta["step"], meta["sums"], meta["history"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
