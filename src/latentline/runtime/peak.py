"""Highest rates of GPUs in their manufacturers' data sheets, which the speed of a training is compared with."""

import re

import torch

from latentline.runtime.compute import gpu_name
from latentline.runtime.precision import Precision

_PEAKS: dict[str, tuple[float, float | None, float | None, float]] = {
    # dense TFLOP/s without sparsity: float32 without tensor cores, TF32, bfloat16, float16; sums in float32
    "B200": (75.0, 1100.0, 2250.0, 2250.0),
    "H200 NVL": (60.0, 417.5, 835.5, 835.5),
    "H200": (66.9, 494.7, 989.4, 989.4),
    "GH200": (66.9, 494.7, 989.4, 989.4),
    "H100 NVL": (60.0, 417.5, 835.5, 835.5),
    "H100 PCIe": (51.2, 378.0, 756.0, 756.0),
    "H100": (66.9, 494.7, 989.4, 989.4),
    "A100": (19.5, 156.0, 312.0, 312.0),
    "A40": (37.4, 74.8, 149.7, 149.7),
    "A10": (31.2, 62.5, 125.0, 125.0),
    "L40S": (91.6, 183.0, 362.0, 362.0),
    "L4": (30.3, 60.0, 121.0, 121.0),
    "RTX A6000": (38.7, 77.4, 154.8, 154.8),
    "RTX 5090": (104.8, 104.8, 209.5, 209.5),
    "RTX 4090": (82.6, 82.6, 165.2, 165.2),
    "RTX 3090": (35.6, 35.6, 71.2, 71.2),
    "V100": (15.7, None, None, 125.0),
    "T4": (8.1, None, None, 65.0),
}
_PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16", "fp16")
_OTHERS = r"\b(Laptop|Max-Q|MIG|D|Ti)\b"  # slower or faster cards, or a part of a card, of the same names


def peak_tflops(device: torch.device, precision: Precision) -> float | None:
    """Return the peak of the device in TFLOP/s; None where it is unknown, as of every CPU."""
    name = gpu_name(device)
    return None if name is None else peak_by_name(name, precision)


def peak_by_name(name: str, precision: Precision) -> float | None:
    """Return the peak in TFLOP/s of the GPU that calls itself ``name``; None for one that the table lacks."""
    if re.search(_OTHERS, name):
        return None
    fitting = (card for card in _PEAKS if re.search(rf"\b{card}\b", name))  # the longer names come first
    return next((_PEAKS[card][_PRECISIONS.index(precision)] for card in fitting), None)
