"""What the judge sees in long series of images, in pieces: a killed evaluation continues, and no series is ever whole in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.feature_extractors.load import Judge
from latentline.runtime.pieces import Piece, Pieces

_BATCH = 500  # images of a piece


@dataclass(frozen=True)
class Series:
    """Images that are read or made when they are asked for."""

    count: int
    images: Callable[[slice], Tensor]  # some of them, uint8 (B, C, H, W), the same every time


def look_at(series: dict[str, Series], judge: Judge, pieces: Pieces) -> dict[str, tuple[Tensor, Tensor]]:
    """Features (N, D) of each series, and the values (N, A) that the judge takes its images for, on the CPU.

    Raises InterruptedRunError when SIGINT or SIGTERM came; what is done is saved.
    """
    places = [(name, start) for name, one in series.items() for start in range(0, one.count, _BATCH)]  # of each piece

    def look(number: int) -> Piece:
        name, start = places[number]
        features, values = judge.look(series[name].images(slice(start, min(start + _BATCH, series[name].count))))
        return {"features": features, "values": values}

    seen: dict[str, list[Piece]] = {}
    for (name, _), piece in zip(places, pieces.each(len(places), look), strict=True):
        seen.setdefault(name, []).append(piece)
    return {name: (torch.cat([part["features"] for part in parts]), torch.cat([part["values"] for part in parts])) for name, parts in seen.items()}
