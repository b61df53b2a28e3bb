"""The process: a noise path and what the network predicts along it. Two names say all of it, and a checkpoint keeps them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.diffusion.path import NoisePath, flow_path
from latentline.diffusion.prediction import PREDICTIONS, Prediction, from_output
from latentline.diffusion.vp import vp_cosine_path, vp_linear_path

Network = Callable[[Tensor, Tensor, Condition], Tensor]
"""net(z_t (B, ...), t (B,), condition of B examples) -> prediction (B, ...)."""

PATHS: dict[str, NoisePath] = {path.name: path for path in (flow_path, vp_linear_path, vp_cosine_path)}

_REFUSED = {
    (
        "flow",
        "epsilon",
    ): "at t = 1, where sampling starts, z_t is the noise itself, and to say it again says nothing of the data",
    ("vp_linear", "velocity"): "its noise part sigma'(t) is infinite at t = 0; v is the bounded target of such paths",
    ("vp_cosine", "velocity"): "its noise part sigma'(t) is infinite at t = 0; v is the bounded target of such paths",
}


def require_compatible(path: str, prediction: str) -> None:
    """Refuse unknown names and what cannot work.

    Raises:
        UserError: one line with the reason and the remedy.
    """
    if path not in PATHS:
        raise UserError(f"path: {path!r} is unknown; expected one of {', '.join(PATHS)}")
    if prediction not in PREDICTIONS:
        raise UserError(f"prediction: {prediction!r} is unknown; expected one of {', '.join(PREDICTIONS)}")
    if reason := _REFUSED.get((path, prediction)):
        others = [kind for kind in PREDICTIONS if (path, kind) not in _REFUSED]
        raise UserError(
            f"prediction: {prediction} is refused on path {path}: {reason}; expected another; set it to one of {', '.join(others)}"
        )


@dataclass(frozen=True)
class Process:
    """A path and a kind of prediction that go together. Build it with :func:`build_process`."""

    path: NoisePath
    prediction: str


def build_process(path: str, prediction: str) -> Process:
    """The process of these two names (``denoiser.process``). Raises UserError: see :func:`require_compatible`."""
    require_compatible(path, prediction)
    return Process(PATHS[path], prediction)


@dataclass(frozen=True)
class DenoiserModel:
    """All that a sampler knows of a network: conditioned, guided, its output in every form.

    Args:
        process: what the network was trained for.
        output: (z_t (B, ...), t (B,)) -> the network's output (B, ...).
    """

    process: Process
    output: Callable[[Tensor, Tensor], Tensor]

    @property
    def path(self) -> NoisePath:
        """The path that the states of this model lie on."""
        return self.process.path

    def predict(self, z_t: Tensor, t: Tensor) -> Prediction:
        """The estimate at z_t (B, ...), t (B,)."""
        return from_output(self.process.prediction, z_t, self.output(z_t, t), self.path(t))

    def predict_at(self, z_t: Tensor, time: float) -> Prediction:
        """The estimate at z_t (B, ...) when all of the batch is at one time."""
        return self.predict(z_t, z_t.new_full((len(z_t),), time))

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The velocity (B, ...): the model as the right side of dz/dt = velocity(z, t)."""
        return self.predict(z_t, t).velocity


def conditional_model(network: Network, process: Process, condition: Condition) -> DenoiserModel:
    """Return the network conditioned on ``condition`` of B examples, without guidance."""
    return DenoiserModel(process, lambda z_t, t: network(z_t, t, condition))
