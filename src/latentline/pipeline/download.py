"""Stage ``download``: fetch, verify, split and store the images."""

from pathlib import Path

import numpy as np
import torch

from latentline.common.files import replaced_folder, write_metrics
from latentline.data.read import read_source
from latentline.data.source import SourceSplit
from latentline.data.splits import cut_splits
from latentline.data.store import write_store
from latentline.figures.grids import save_grid
from latentline.figures.plots import bars
from latentline.params.data import DataParams
from latentline.params.load import load
from latentline.pipeline.paths import FIGURES, METRICS, PREPARED

_PER_CLASS = 10


def main() -> None:
    """Read section ``data``; write data/prepared, fig/download and metrics/data.json."""
    knobs, seed, _ = load("data", DataParams)
    source = read_source(knobs.name, root=None if knobs.root is None else Path(knobs.root), timeout_seconds=knobs.timeout_seconds)
    splits = cut_splits(source.splits, val_fraction=knobs.val_fraction, limit=knobs.limit, seed=seed)
    write_store(PREPARED, source.card, splits)
    _figures(splits["train"], source.card.classes)
    write_metrics(METRICS / "data.json", {"classes": len(source.card.classes), **{name: _summary(split) for name, split in splits.items()}})


def _summary(split: SourceSplit) -> dict[str, float]:
    scaled = split.images.astype(np.float32) / 255
    return {"count": len(split.labels), "mean": float(scaled.mean()), "std": float(scaled.std())}


def _figures(train: SourceSplit, classes: tuple[str, ...]) -> None:
    rows = [np.flatnonzero(train.labels == label)[:_PER_CLASS] for label in range(len(classes))]
    width = min(len(found) for found in rows)
    shown = np.concatenate([found[:width] for found in rows])
    with replaced_folder(FIGURES / "download") as folder:
        if width:
            save_grid(folder / "classes.png", torch.from_numpy(train.images[shown]), columns=width)
        bars(folder / "class_histogram.png", classes, np.bincount(train.labels, minlength=len(classes)).tolist(), "training images")
