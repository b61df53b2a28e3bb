"""What the judge sees in long series of images, in chunks: a killed evaluation continues, and no series is ever whole in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.feature_extractors.load import FeatureExtractor
from latentline.runtime.resumable_map import Chunk, ResumableMap

_BATCH = 500  # images of a chunk


@dataclass(frozen=True)
class Series:
    """Images that are read or made when they are asked for."""

    count: int
    images: Callable[[slice], Tensor]  # some of them, uint8 (B, C, H, W), the same every time


def look_at(
    series: dict[str, Series], judge: FeatureExtractor, chunks: ResumableMap
) -> dict[str, tuple[Tensor, Tensor]]:
    """Features (N, D) of each series, and the values (N, A) that the judge takes its images for, on the CPU.

    Raises InterruptedRunError when SIGINT or SIGTERM came; what is done is saved.
    """
    places = [(name, start) for name, one in series.items() for start in range(0, one.count, _BATCH)]  # of each chunk

    def look(number: int) -> Chunk:
        name, start = places[number]
        features, values = judge.look(series[name].images(slice(start, min(start + _BATCH, series[name].count))))
        return {"features": features, "values": values}

    seen: dict[str, list[Chunk]] = {}
    for (name, _), chunk in zip(places, chunks.map(len(places), look), strict=True):
        seen.setdefault(name, []).append(chunk)
    return {
        name: (torch.cat([part["features"] for part in parts]), torch.cat([part["values"] for part in parts]))
        for name, parts in seen.items()
    }
