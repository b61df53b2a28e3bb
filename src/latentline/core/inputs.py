"""Checks of what a user passes from Python: type, shape, range and number, each refused in one line."""

import math
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError

_BYTES = 10.0  # pixels beyond it were never scaled to [-1, 1], from which a decoder strays by far less
_MAX_NAMED = 20  # classes in a message


def float_batch(value: Any, name: str, shape: Sequence[int], device: torch.device, meaning: str, remedy: str) -> Tensor:
    """Return a batch as float32 (B, *shape) on the device; float64, float16 and bfloat16 are converted.

    Args:
        value: what the user passed.
        name: of the argument, for the message.
        shape: without the batch axis.
        device: of the result.
        meaning: of the values, for the message.
        remedy: for the message.

    Raises:
        UserError: no tensor, integers, another shape, NaN or infinity.
    """
    expected = f"float {meaning} of shape (B, {', '.join(map(str, shape))})"
    if not isinstance(value, Tensor):
        raise UserError(f"{name} ({type(value).__name__}) must be a tensor, {expected}; convert it by torch.as_tensor")
    if tuple(value.shape[1:]) != tuple(shape) or not value.ndim or not value.is_floating_point():
        raise UserError(f"{name} ({value.dtype} {tuple(value.shape)}) must be {expected}; {remedy}")
    if not bool(value.isfinite().all()):
        raise UserError(f"{name} (NaN or infinity) must be finite; correct what computes it")
    return value.to(device, torch.float32)


def image_batch(value: Any, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return images as float32 (B, C, H, W) on the device; warn where they seem to be in [0, 1].

    Raises:
        UserError: see :func:`float_batch`; or values such as 255, which are not in [-1, 1].
    """
    remedy = "convert bytes with latentline.data.store.to_unit_range"
    images = float_batch(value, "images", shape, device, "in [-1, 1]", _other_shape(value, shape) or remedy)
    if len(images):
        low, high = (float(bound) for bound in images.detach().aminmax())
        if max(-low, high) > _BYTES:
            raise UserError(f"images (values from {low:g} to {high:g}) must be in [-1, 1]; {remedy}")
        if low >= 0 and high > low:
            message = (
                f"images (values from {low:g} to {high:g}) must be in [-1, 1]; if they are in [0, 1], pass 2 * x - 1"
            )
            warnings.warn(message, stacklevel=3)
    return images


def _other_shape(value: Any, shape: Sequence[int]) -> str | None:
    """Return the remedy for float images of another shape than (B, *shape), None where the shape is right."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape[1:] == tuple(shape):
        return None
    if tuple(value.shape) == tuple(shape):
        return "add the axis of the batch, images[None]"
    if value.shape[1:] == (*shape[1:], shape[0]):
        return "move the channels, images.permute(0, 3, 1, 2)"
    return "give them the size and channels of the training images"


def require_same_length(**batches: Tensor | None) -> None:
    """Raise UserError unless all batches have the same number of rows; None is left out."""
    lengths = {name: len(batch) for name, batch in batches.items() if batch is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise UserError(f"inputs ({found}) must be as many each; pass one row for each image")


def mask_batch(value: Any, count: int, sides: Sequence[int], device: torch.device) -> Tensor:
    """Return a mask of pixels as bool (count, 1, H, W) on the device.

    Args:
        value: what the user passed: bool (count, 1, H, W), or (H, W) for all images.
        count: number of images.
        sides: (H, W).
        device: of the result.

    Raises:
        UserError: no tensor, another type or shape.
    """
    height, width = sides
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"mask ({found}) must be a bool tensor, True where to fill; pass mask > 0.5, or mask.bool()")
    if tuple(value.shape) not in ((height, width), (count, 1, height, width)):
        expected = f"({count}, 1, {height}, {width}), or ({height}, {width}) for all images"
        raise UserError(f"mask {tuple(value.shape)} must have the shape {expected}; correct it")
    return value.to(device).expand(count, 1, height, width)


def time_in_range(t: Any, name: str = "t", *, zero: bool = True) -> float:
    """Return a time in [0, 1], or in (0, 1] without ``zero``. Raises UserError with the argument's name."""
    try:
        value = float(t)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{name} ({type(t).__name__}) must be one number for all images; correct it") from None
    if not zero and not 0 < value <= 1:
        raise UserError(f"{name} ({t}) must be above 0 and at most 1; correct it")
    if not 0 <= value <= 1:
        raise UserError(f"{name} ({t}) must be from 0 (data) to 1 (noise); correct it")
    return value


def require_integer(name: str, value: Any, least: int) -> None:
    """Raise UserError unless ``value`` is an integer of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise UserError(f"{name} ({value}) must be an integer and at least {least}; raise or round it")


def require_number(name: str, value: Any, least: float, most: float) -> float:
    """Return ``value`` as a float from ``least`` to ``most``. Raises UserError with the argument's name."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if isinstance(value, str) or not least <= number <= most:
        raise UserError(f"{name} ({value!r}) must be from {least} to {most}; correct it")
    return number


def attribute_values(attribute: Attribute, values: Any) -> Tensor:
    """Return values of an attribute as numbers (B,): class indices, or the values themselves.

    Args:
        attribute: the attribute.
        values: one value or B: a list, tuple, array, tensor or column of a table. The values are names of classes,
            their indices, or numbers.

    Raises:
        UserError: a value that the attribute does not have.
    """
    shape = tuple(getattr(values, "shape", ()))
    if math.prod(shape[1:]) != 1:
        raise UserError(f"condition {attribute.name} (shape {shape}) must have one value per image; pass (B,) values")
    if hasattr(values, "tolist"):  # tensors, arrays and their scalars, columns of tables
        values = values.reshape(-1).tolist() if len(shape) > 1 else values.tolist()
    classes = attribute.classes
    numbers = [
        classes.index(value) if isinstance(value, str) and value in classes else value
        for value in (list(values) if isinstance(values, list | tuple | range) else [values])
    ]
    if refused := [value for value in numbers if not _is_value(attribute, value)]:
        few = ", ".join(classes[:_MAX_NAMED]) + ", ..." * (len(classes) > _MAX_NAMED)
        kinds = {"binary": "0 or 1", "continuous": "finite numbers"}
        expected = kinds.get(attribute.kind, f"from {few}, or their indices")
        raise UserError(f"condition {attribute.name} ({refused[:_MAX_NAMED]}) must be {expected}; correct it")
    return torch.tensor(numbers, dtype=torch.float32)


def _is_value(attribute: Attribute, value: Any) -> bool:
    """Return whether the attribute can have this number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return False
    limit = {"binary": 2, "categorical": len(attribute.classes)}.get(attribute.kind)
    return limit is None or value in range(limit)
