"""The process: a noise path and what the network predicts along it; a checkpoint stores the names of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.diffusion.flow_map import FlowMap
from latentline.diffusion.path import NoisePath, flow_path
from latentline.diffusion.prediction import PREDICTIONS, Prediction, from_output
from latentline.diffusion.vp import vp_cosine_path, vp_linear_path

Network = Callable[[Tensor, Tensor, Condition], Tensor]
"""net(z_t (B, ...), t (B,), condition of B examples) -> prediction (B, ...)."""

PATHS: dict[str, NoisePath] = {path.name: path for path in (flow_path, vp_linear_path, vp_cosine_path)}

_UNBOUNDED = "since the velocity's noise part sigma'(t) is infinite at t = 0; set it to v, which is bounded there"
_REFUSED = {  # (path, prediction): reason; remedy
    ("flow", "epsilon"): "since z_t is the noise itself at t = 1, where sampling starts; set it to velocity",
    ("vp_linear", "velocity"): _UNBOUNDED,
    ("vp_cosine", "velocity"): _UNBOUNDED,
}


def require_compatible(path: str, prediction: str) -> None:
    """Refuse unknown names, and a prediction from which data cannot be computed along the path.

    Raises:
        UserError: one line with the reason and the remedy.
    """
    if path not in PATHS:
        raise UserError(f"path ({path}) must be one of {', '.join(PATHS)}; correct it")
    if prediction not in PREDICTIONS:
        raise UserError(f"prediction ({prediction}) must be one of {', '.join(PREDICTIONS)}; correct it")
    if reason := _REFUSED.get((path, prediction)):
        others = ", ".join(kind for kind in PREDICTIONS if (path, kind) not in _REFUSED)
        raise UserError(f"prediction ({prediction}) must be one of {others} on path {path}, {reason}")


@dataclass(frozen=True)
class Process:
    """A path and a kind of prediction that are compatible. Build it with :func:`build_process`."""

    path: NoisePath
    prediction: str
    flow_map: FlowMap | None = None
    """The guidance of the trajectories whose average velocities the network has learnt, too; None = none."""


def build_process(path: str, prediction: str, flow_map: Mapping[str, Any] | None = None) -> Process:
    """Return the process of these names (``denoiser.process``).

    Args:
        path: name.
        prediction: name.
        flow_map: arguments of :class:`FlowMap`; None = the network has learnt no average velocities.

    Raises:
        UserError: see :func:`require_compatible`.
    """
    require_compatible(path, prediction)
    return Process(PATHS[path], prediction, None if flow_map is None else FlowMap(**flow_map))


@dataclass(frozen=True)
class DenoiserModel:
    """A network as samplers use it: conditioned, guided, with its output in every form.

    Args:
        process: what the network was trained for.
        output: (z_t (B, ...), t (B,)) -> the network's output (B, ...).
        output_at: time -> ``output`` for batches at that one time, which may cost less; None = ``output`` itself.
        average: (z_t (B, ...), t (B,), r (B,)) -> the average velocity (B, ...) over [r, t], guided; None = the network
            has learnt none.
    """

    process: Process
    output: Callable[[Tensor, Tensor], Tensor]
    output_at: Callable[[float], Callable[[Tensor, Tensor], Tensor]] | None = None
    average: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    @property
    def path(self) -> NoisePath:
        """The noise path of this model's states."""
        return self.process.path

    def predict(self, z_t: Tensor, t: Tensor) -> Prediction:
        """Return the estimate at z_t (B, ...), t (B,)."""
        return self._predicted(self.output, z_t, t)

    def predict_at(self, z_t: Tensor, time: float) -> Prediction:
        """Return the estimate at z_t (B, ...) where the whole batch is at one time."""
        output = self.output_at(time) if self.output_at else self.output
        return self._predicted(output, z_t, z_t.new_full((len(z_t),), time))

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Return the velocity (B, ...), the right side of dz/dt = velocity(z, t)."""
        return self.predict(z_t, t).velocity

    def _predicted(self, output: Callable[[Tensor, Tensor], Tensor], z_t: Tensor, t: Tensor) -> Prediction:
        return from_output(self.process.prediction, z_t, output(z_t, t), self.path(t))


def conditional_model(network: Network, process: Process, condition: Condition) -> DenoiserModel:
    """Return the network conditioned on ``condition`` of B examples, without guidance."""
    return DenoiserModel(process, lambda z_t, t: network(z_t, t, condition))
