"""A simulated accelerator: its tensors lie in the CPU's memory, but torch takes them for another device's.

It raises where CUDA raises: on operations that mix devices, on numpy, and on generators of the CPU. It also raises on
random numbers drawn on the device, which docs/reliability.md rules out. It counts what makes the CPU wait.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

_NAME = "simulated"
_CPU = torch.device("cpu")
_aten = torch.ops.aten
_COPIES = (_aten.copy_.default, _aten._to_copy.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default)
_WAITS = {  # the CPU needs a result
    _aten._local_scalar_dense.default: "item",
    _aten.equal.default: "equal",
    _aten.nonzero.default: "nonzero",
    _aten.masked_select.default: "masked_select",
    _aten._unique2.default: "unique",
    _aten.bincount.default: "bincount",
}
_FACTORIES = (  # torch would build these from an empty tensor that they resize
    *("arange", "arange.start", "arange.start_step", "linspace", "logspace", "eye", "eye.m"),
    *("randperm", "tril_indices", "triu_indices"),
)
_lock = threading.Lock()  # backward, and threads that prefetch, count beside the main thread


@dataclass
class Counts:
    """What has happened on the simulated device since the counts began."""

    synchronisations: Counter[str] = field(default_factory=Counter)
    """Waits of the CPU for the device, by cause: ``item``, ``tolist``, ``copy to_host``, ``copy to_device``, ...

    A copy waits unless it is ``non_blocking`` and its memory on the CPU is pinned.
    """
    copies: Counter[str] = field(default_factory=Counter)
    """Copies ``to_device`` and ``to_host``."""
    copied_bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of ``copies``."""
    operations: Counter[str] = field(default_factory=Counter)
    """Operations on tensors of the device, by name."""

    def copy(self, direction: str, tensor: Tensor, *, waits: bool) -> None:
        """Count a copy of ``tensor``."""
        self.copies[direction] += 1
        self.copied_bytes[direction] += tensor.numel() * tensor.element_size()
        self.synchronisations[f"copy {direction}"] += waits
        self.synchronisations += Counter()  # drops zeros


_counted: list[Counts] = []


@contextmanager
def counting() -> Iterator[Counts]:
    """Yield the counts of the block."""
    counts = Counts()
    _counted.append(counts)
    try:
        yield counts
    finally:
        _counted.remove(counts)


@cache
def simulated_device() -> torch.device:
    """Return the device, which the first call registers with torch until the process ends.

    The first call must come before the first backward pass of the process, which fixes the devices that have a queue.
    """
    _setup_privateuseone_for_python_backend(_NAME, backend_module=_BackendModule())
    every, factories = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
    for name in _FACTORIES:
        packet, _, overload = name.partition(".")
        function = getattr(getattr(_aten, packet), overload or "default")
        factories.impl(name, partial(_run_factory, function), "PrivateUse1")
    _libraries.extend([every, factories])
    return torch.device(_NAME, 0)


@contextmanager
def simulated_pinning() -> Iterator[None]:
    """Let ``Tensor.pin_memory`` mark memory of the CPU as pinned, since torch has no pinned memory for the device."""
    pinned: dict[int, Tensor] = {}  # keeps the memory, so that no other tensor gets its address

    def pin_memory(tensor: Tensor, device: object = None) -> Tensor:
        copied = tensor.clone()
        pinned[copied.untyped_storage().data_ptr()] = copied
        return copied

    def is_pinned(tensor: Tensor, device: object = None) -> bool:
        return not isinstance(tensor, _DeviceTensor) and tensor.untyped_storage().data_ptr() in pinned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "pin_memory", pin_memory)
        patch.setattr(Tensor, "is_pinned", is_pinned)
        yield


_libraries: list[torch.library.Library] = []  # their registrations end with them


def _run_factory(function: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(function, args, kwargs)


class _BackendModule(_DummyBackendModule):
    """What torch asks of a backend: it has no generator of its own, so that nothing draws on the device."""

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: object = None) -> None:
        _wait("synchronize")


class _DeviceTensor(torch.Tensor):
    """A tensor of the device; ``raw`` holds its numbers on the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "_DeviceTensor":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=simulated_device(),
        )
        tensor.raw = raw
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(function, args, kwargs or {})

    def tolist(self) -> Any:
        _wait("tolist")
        return self.raw.detach().tolist()

    def numpy(self, **options: object) -> Any:
        raise TypeError(f"can't convert {self.device} tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *args: object, **options: object) -> Any:
        return self.numpy()

    def __repr__(self) -> str:
        return f"{self.raw!r} on {self.device}"


def _run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation whose result or some argument lies on the device."""
    tensors: list[Tensor] = []
    tree_map_only(Tensor, tensors.append, (args, kwargs))
    device_tensors = [tensor for tensor in tensors if isinstance(tensor, _DeviceTensor)]
    cpu_tensors = [tensor for tensor in tensors if not isinstance(tensor, _DeviceTensor)]
    asked = kwargs.get("device")
    on_device = bool(device_tensors) if asked is None else torch.device(asked).type == _NAME
    if function in _COPIES:
        on_device = _count_copy(function, args, kwargs, on_device)
    elif function in _INDEXING and isinstance(args[0], _DeviceTensor):
        _count_indexing(args[1], cpu_tensors)
    elif device_tensors:
        _require_one_device(function, device_tensors, cpu_tensors)
    if function in _WAITS and device_tensors:
        _wait(_WAITS[function])
    if on_device and torch.Tag.nondeterministic_seeded in function.tags and "attention" not in function.name():
        raise RuntimeError(f"{function} draws on {_NAME}; random numbers are drawn on the CPU")
    _count(lambda counts: counts.operations.update([function.name()]))

    raws = {id(tensor.raw): tensor for tensor in device_tensors}  # operations in place return their argument
    result = function(*tree_map(_raw, args), **{name: tree_map(_raw, value) for name, value in kwargs.items()})

    def wrapped(tensor: Tensor) -> Tensor:
        if (own := raws.get(id(tensor))) is not None:
            if own.shape != tensor.shape:
                raise NotImplementedError(f"{function} resizes a tensor, which the simulated device cannot")
            return own
        return _DeviceTensor(tensor) if on_device and not any(tensor is own for own in cpu_tensors) else tensor

    return tree_map_only(Tensor, wrapped, result)


def _raw(value: Any) -> Any:
    """Return what the CPU computes with instead of an argument."""
    if isinstance(value, _DeviceTensor):
        return value.raw
    return _CPU if isinstance(value, torch.device) and value.type == _NAME else value


def _require_one_device(function: Any, device_tensors: list[Tensor], cpu_tensors: list[Tensor]) -> None:
    """Raise what CUDA raises, which takes numbers of the CPU (no dimensions) in pointwise operations alone."""
    numbers = torch.Tag.pointwise in function.tags or "foreach" in function.name()
    if any(tensor.dim() > 0 or not numbers for tensor in cpu_tensors):
        shapes = [tuple(tensor.shape) for tensor in (*device_tensors, *cpu_tensors)]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {_NAME} and cpu in {function}: {shapes}"
        )


def _count_copy(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], on_device: bool) -> bool:
    """Count a copy between devices, and return whether its result lies on the device."""
    if function is _aten.copy_.default:
        target, source = args[:2]
        non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
        on_device = isinstance(target, _DeviceTensor)
    else:
        target, source, non_blocking = None, args[0], kwargs.get("non_blocking", False)
    if on_device == isinstance(source, _DeviceTensor):
        return on_device
    on_cpu = source if on_device else target
    waits = not (non_blocking and on_cpu is not None and on_cpu.is_pinned())
    _count(lambda counts: counts.copy("to_device" if on_device else "to_host", source, waits=waits))
    return on_device


def _count_indexing(indices: list[Tensor | None], cpu_tensors: list[Tensor]) -> None:
    """Count the copies of indices that lie on the CPU, and the waits for masks, whose rows the CPU must know."""
    for index in (index for index in indices if index is not None):
        if not isinstance(index, _DeviceTensor):
            _count(lambda counts, index=index: counts.copy("to_device", index, waits=True))
        elif index.dtype in {torch.bool, torch.uint8}:
            _wait("index by mask")
    if any(tensor.dim() > 0 and not any(tensor is index for index in indices) for tensor in cpu_tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {_NAME} and cpu in indexing")


def _wait(cause: str) -> None:
    _count(lambda counts: counts.synchronisations.update([cause]))


def _count(change: Callable[[Counts], None]) -> None:
    with _lock:
        for counts in _counted:
            change(counts)
