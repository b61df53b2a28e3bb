"""All that changes while networks train, in one object that is saved and restored whole."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latentline.core.errors import UserError
from latentline.runtime.precision import LossScale, Precision, autocast
from latentline.runtime.sharding import full_tensor, gather_to_rank0, shard_like
from latentline.training.ema import Ema
from latentline.training.gradients import GradientBuckets
from latentline.training.micro_batches import Loss, MicroBatch
from latentline.training.step_log import ReadNumbers


@dataclass
class TrainedModule:
    """A network, its loss and its optimizer."""

    network: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    gradients: GradientBuckets
    learning_rate: Callable[[int], float]
    """Step (counted from 0) -> learning rate."""
    clip_norm: float
    """Largest norm of the gradient."""
    first_step: int
    """The network does not train in the steps before."""
    section: str
    """Section of params.yaml, for error messages."""
    remedy: str
    """What to change when the training diverges."""
    precision: Precision = "float32"
    """Of the forward passes."""

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        self._scale = LossScale(self.device) if self.precision == "fp16" else None

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """Compute the loss of each micro-batch of ``step`` in this precision, and add its gradients."""
        with autocast(self.device, self.precision):
            micro_batches = iter(self.loss(step))
        while True:
            with autocast(self.device, self.precision):
                micro_batch = next(micro_batches, None)
            if micro_batch is None:
                return
            weight, loss, _ = micro_batch
            self.gradients.begin_backward()
            weighted = weight * loss
            (weighted if self._scale is None else weighted * self._scale.factor).backward()
            yield micro_batch

    def clip_gradients(self) -> Tensor:
        """Scale the gradients down to ``clip_norm``. Return their norm (scalar) before that; waits for nothing."""
        parameters = list(self.network.parameters())
        if self._scale is not None:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            torch._foreach_div_(gradients, self._scale.factor)
        return full_tensor(nn.utils.clip_grad_norm_(parameters, self.clip_norm))

    def optimizer_step(self, step: int, finite: Tensor) -> None:
        """Move the weights along their gradients with the learning rate of ``step``, and drop the gradients.

        Where ``finite``, bool (), is False, the device skips the step. The run then stops when it reads this step's
        numbers; only gradients that overflow in float16 are nothing but a reason to lower the loss's factor.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        # The attributes through which torch's GradScaler makes a fused optimizer skip a step.
        self.optimizer.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self._scale is not None:
            self._scale.update(finite.logical_not())

    def require_finite(self, numbers: ReadNumbers, step: int) -> None:
        """Raise UserError when the training has diverged at ``step``.

        In float16 an infinite gradient is no divergence, except at the lowest factor of the loss.
        """
        if math.isfinite(numbers.loss + numbers.gradient_norm):
            return
        if math.isfinite(numbers.loss) and self._scale is not None and self._scale.factor.item() >= 1:
            return
        raise UserError(
            f"{self.section}: loss {numbers.loss:.3g} and gradient norm {numbers.gradient_norm:.3g} at step {step} "
            f"with learning rate {self.learning_rate(step):.3g}; expected finite numbers; {self.remedy}"
        )

    def save(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors that :meth:`restore` takes, each name after ``prefix``."""
        tensors = {f"{prefix}model.{name}": value for name, value in self.network.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}optimizer.{index}.{slot}": value for slot, value in slots.items()}
        if self._scale is not None:
            tensors |= {f"{prefix}scale.{name}": value for name, value in self._scale.tensors().items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Load what was saved under ``prefix``."""
        own = self.network.state_dict()
        weights = _below(f"{prefix}model.", tensors)
        self.network.load_state_dict({name: shard_like(value, own[name]) for name, value in weights.items()})
        slots: dict[int, dict[str, Tensor]] = {}
        # As the optimizer numbers them.
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, value in _below(f"{prefix}optimizer.", tensors).items():
            index, slot = name.split(".", 1)
            parameter = parameters[int(index)]
            # In the parameter's own memory layout, since the fused optimizer walks both together.
            is_moment = value.shape == parameter.shape and value.ndim
            slots.setdefault(int(index), {})[slot] = (
                shard_like(value, parameter.detach()) if is_moment else value.clone()
            )
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        if self._scale is not None:
            self._scale.restore(_below(f"{prefix}scale.", tensors))


@dataclass
class RunState:
    """A training after ``step`` steps."""

    model: TrainedModule
    discriminator: TrainedModule | None
    """The second network, where one trains against the first."""
    averages: Sequence[Ema]
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the logged terms since the epoch began."""
    counts: dict[str, int] = field(default_factory=dict)
    """Steps that logged each term since the epoch began. A discriminator may join in the middle of an epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch."""

    def active_modules(self) -> list[TrainedModule]:
        """Return the networks that train in the step under way, in order."""
        return [module for module in (self.model, self.discriminator) if module and self.step >= module.first_step]

    def update_averages(self) -> None:
        """Move the averages towards the weights after the step under way."""
        for average in self.averages:
            average.update(self.step)

    def save(self, total_steps: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the JSON that :meth:`restore` takes, of a run that is to have ``total_steps``.

        Where weights are sharded, all ranks must call this, and rank 0 alone gets the whole tensors.
        """
        tensors = self.model.save("")
        for index, average in enumerate(self.averages):
            tensors |= {f"average.{index}.{name}": value for name, value in average.tensors().items()}
        if self.discriminator:
            tensors |= self.discriminator.save("discriminator.")
        # As lists: JSON's mappings are stored sorted, but the columns of the table have an order.
        sums, counts, history = (
            list(self.sums.items()),
            list(self.counts.items()),
            [list(row.items()) for row in self.history],
        )
        tensors = {name: gather_to_rank0(tensor) for name, tensor in tensors.items()}
        return tensors, {
            "total_steps": total_steps,
            "step": self.step,
            "sums": sums,
            "counts": counts,
            "history": history,
        }

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Load what was saved; the networks must be built alike."""
        self.model.restore(tensors, "")
        for index, average in enumerate(self.averages):
            average.restore(_below(f"average.{index}.", tensors))
        if self.discriminator:
            self.discriminator.restore(tensors, "discriminator.")
        self.step, self.sums, self.counts = meta["step"], dict(meta["sums"]), dict(meta["counts"])
        self.history = [dict(row) for row in meta["history"]]

    def log(self, terms: dict[str, float]) -> None:
        """Add the terms of one step to those of the epoch."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + term
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_epoch(self) -> dict[str, float]:
        """Return the means of the logged terms over the steps that logged each, and start the next epoch."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
