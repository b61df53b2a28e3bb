"""All that changes while networks train, in one object that is saved and restored whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latentline.runtime.sharding import cut, joined_by_first
from latentline.training.ema import Ema


@dataclass
class Player:
    """A network that trains, and its optimizer."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    """Step -> learning rate."""

    def save(self, prefix: str) -> dict[str, Tensor]:
        """Tensors that :meth:`restore` takes, each name after ``prefix``."""
        tensors = {f"{prefix}model.{name}": value for name, value in self.network.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}optimizer.{index}.{slot}": value for slot, value in slots.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Become what was saved under ``prefix``."""
        own = self.network.state_dict()
        self.network.load_state_dict({name: cut(value, own[name]) for name, value in _part(tensors, f"{prefix}model.").items()})
        slots: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.network.parameters())
        for name, value in _part(tensors, f"{prefix}optimizer.").items():
            index, slot = name.split(".", 1)
            parameter = parameters[int(index)]
            # In the parameter's own memory layout: the fused optimizer walks them together.
            matched = cut(value, parameter.detach()) if value.shape == parameter.shape and value.ndim else value.clone()
            slots.setdefault(int(index), {})[slot] = matched
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})


@dataclass
class RunState:
    """A training after ``step`` steps."""

    model: Player
    averages: Sequence[Ema]
    rival: Player | None
    """The second network, where one trains against the first."""
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the logged terms since the epoch began."""
    counts: dict[str, int] = field(default_factory=dict)
    """Steps that logged each term since the epoch began: a rival may join in the middle of one."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch."""

    def save(self, total_steps: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON that :meth:`restore` takes, on the way to ``total_steps``.

        Where weights are divided among processes, all must call this, and the first alone gets the whole tensors.
        """
        tensors = self.model.save("")
        for index, average in enumerate(self.averages):
            tensors |= {f"average.{index}.{name}": value for name, value in average.tensors().items()}
        if self.rival:
            tensors |= self.rival.save("rival.")
        # As lists, since JSON's mappings are stored sorted, and names must come back in the order in which a table has them as its columns.
        sums, counts, history = list(self.sums.items()), list(self.counts.items()), [list(row.items()) for row in self.history]
        tensors = {name: joined_by_first(tensor) for name, tensor in tensors.items()}
        return tensors, {"total_steps": total_steps, "step": self.step, "sums": sums, "counts": counts, "history": history}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Become what was saved; the networks must be built alike."""
        self.model.restore(tensors, "")
        for index, average in enumerate(self.averages):
            average.restore(_part(tensors, f"average.{index}."))
        if self.rival:
            self.rival.restore(tensors, "rival.")
        self.step, self.sums, self.counts, self.history = meta["step"], dict(meta["sums"]), dict(meta["counts"]), list(map(dict, meta["history"]))

    def log(self, terms: dict[str, float]) -> None:
        """Add the terms of one step to the epoch's."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + term
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_epoch(self) -> dict[str, float]:
        """Means of the logged terms, each over the steps that logged it; the next epoch begins with none."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
