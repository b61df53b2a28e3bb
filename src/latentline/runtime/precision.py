"""Number formats of matrix products and convolutions: float32, TF32, bfloat16 or float16 on tensor cores.

Weights, optimizer states, averages, losses and all stored numbers are float32 in every precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentline.core.errors import UserError

Precision = Literal["float32", "tf32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute the forward passes within the block in ``precision``, by torch's autocast.

    ``float32`` and ``tf32`` change nothing here; see :func:`tensor_cores`.
    """
    if precision not in _DTYPES:
        yield
        return
    # On the CPU the gradient of torch's fused attention takes twenty times as long in bfloat16 as the plain one's.
    plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" and torch.is_grad_enabled() else nullcontext()
    with torch.autocast(device.type, _DTYPES[precision]), plain:
        yield


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Let float32 products and convolutions on CUDA use TF32 (10 bits of mantissa) within the block, or none of them.

    The backward pass must lie within the block, too. Other devices have no TF32.
    """
    cudnn = torch.backends.cudnn
    backends: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee" if precision == "float32" else "tf32"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


@contextmanager
def inference(device: torch.device, precision: Precision, setting: str) -> Iterator[None]:
    """Compute what networks infer within the block in ``precision``.

    Args:
        device: of the networks.
        precision: of products and convolutions.
        setting: its name, for the error message.

    Raises:
        UserError: see :func:`require_supported`.
    """
    require_supported(device, precision, setting)
    with tensor_cores(precision), autocast(device, precision):
        yield


def activation_scale(precision: Precision) -> float:
    """Return the bytes of the activations relative to those in float32."""
    return 0.5 if precision in _DTYPES else 1.0


def require_supported(device: torch.device, precision: Precision, setting: str, *, sharded: bool = False) -> None:
    """Refuse what the device has no arithmetic for. A CPU computes in all formats, in some of them slowly.

    Args:
        device: of the networks.
        precision: of products and convolutions.
        setting: its name.
        sharded: whether a training shards its weights; each rank would find other overflows in float16.

    Raises:
        UserError: one line with the remedy.
    """
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"{setting} (bf16) must be a format of this GPU; set it to fp16 or float32")
    if sharded and precision == "fp16":
        raise UserError(
            f"{setting} (fp16) must be another with compute.strategy fsdp; set it to bf16, or the strategy to ddp"
        )


class LossScale:
    """Factor of a loss in float16, below whose smallest number gradients would vanish.

    Micikevicius et al., arXiv 1710.03740, section 3.2, with the dynamic factor of torch's GradScaler: it halves after a
    step whose gradients overflow, which is skipped, and doubles after 2000 steps without one.

    Args:
        device: of the network.
    """

    _FIRST, _GROWTH_STEPS = 2.0**16, 2000

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.tensor(self._FIRST, device=device)
        self._good_steps = torch.tensor(0.0, device=device)

    def update(self, overflow: torch.Tensor) -> None:
        """Adapt the factor to whether this step's gradients overflowed, bool (); waits for nothing."""
        good = torch.where(overflow, 0.0, self._good_steps + 1)
        grow = good >= self._GROWTH_STEPS
        self.factor = torch.where(overflow, self.factor / 2, torch.where(grow, self.factor * 2, self.factor))
        self._good_steps = torch.where(grow, 0.0, good)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what :meth:`restore` takes."""
        return {"factor": self.factor, "good_steps": self._good_steps}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue with what :meth:`tensors` returned."""
        self.factor = tensors["factor"].to(self.factor.device)
        self._good_steps = tensors["good_steps"].to(self.factor.device)
