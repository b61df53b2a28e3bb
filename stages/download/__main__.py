"""Stage ``download``: fetch, verify, split, prepare and store the images, and show what will be trained on."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.files import replaced_folder, scratch_folder, write_metrics
from latentline.core.labels import class_names
from latentline.core.load_params import load
from latentline.core.paths import FIGURES, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.store import ImageSplit, read_card, read_split
from latentline.figures.grids import save_grid
from latentline.figures.plots import bars, histogram, write_table
from stages.download.duplicates import Duplicates, find_duplicates
from stages.download.params import DataParams
from stages.download.prepare import Options, Report, Tally, prepare
from stages.download.registry import read_source
from stages.download.source import Request, Source
from stages.download.subset import of_classes

_PER_ROW = 10  # images of a class or attribute in the grid
_MOST_ROWS = 40  # classes or attributes shown
_THUMBNAIL = 64  # pixels
_LISTED = 1000  # unreadable files, or groups of duplicates, in their lists

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``data``; write data/prepared, fig/download and metrics/data.json."""
    params, seed, compute = load("data", DataParams)
    with scratch_folder(PREPARED.with_name("scratch")) as scratch:
        source = read_source(_request(params, scratch))
        if params.classes is not None:
            source = of_classes(source, params.classes)
        report = prepare(source, PREPARED, _options(params, seed, compute.workers))
        duplicates = find_duplicates({name: np.concatenate(tally.digests) for name, tally in report.tallies.items()})
        repeated = _duplicate_rows(duplicates, report, source)
    if report.unreadable:
        log.warning(
            "%d unreadable images were left out; fig/download/unreadable.csv lists them", len(report.unreadable)
        )
    if duplicates.across:
        log.warning(
            "%d images of val or test are also in another split; fig/download/duplicates.csv lists them",
            duplicates.across,
        )
    train = read_split(PREPARED, "train")
    card = read_card(PREPARED)
    write_metrics(METRICS / "data.json", _metrics(report, duplicates, card.classes))
    with replaced_folder(FIGURES / "download") as folder:
        _figures(folder, train)
        unreadable = [{"image": name, "reason": reason} for name, reason in sorted(report.unreadable.items())[:_LISTED]]
        write_table(folder / "unreadable.csv", unreadable or [{"image": "none", "reason": ""}])
        write_table(folder / "duplicates.csv", repeated or [{"group": 0, "split": "none", "image": ""}])


def _request(params: DataParams, scratch: Path) -> Request:
    return Request(
        name=params.name,
        path=Path(params.path),
        labels=Path(params.labels),
        root=None if params.root is None else Path(params.root),
        emnist_split=params.emnist_split,
        medmnist_size=params.medmnist_size,
        timeout_seconds=params.timeout_seconds,
        downloads=Path(os.environ.get("DVC_ROOT", ".")) / ".state" / "downloads",
        scratch=scratch,
    )


def _options(params: DataParams, seed: int, workers: int) -> Options:
    size = [params.image_size] * 2 if isinstance(params.image_size, int) else params.image_size
    return Options(
        image_size=(size[0], size[1]) if size else None,
        channels=params.channels,
        shares=params.splits.model_dump(),
        limit=params.limit,
        max_unreadable=params.max_unreadable,
        horizontal_flip=params.horizontal_flip,
        seed=seed,
        workers=workers,
    )


def _metrics(report: Report, duplicates: Duplicates, classes: Sequence[str]) -> dict[str, Any]:
    splits = {
        name: {**_moments(tally, report.shape), "duplicates": duplicates.within[name]}
        for name, tally in report.tallies.items()
    }
    channels, height, width = report.shape
    return {
        **splits,
        "classes": len(classes),
        "channels": channels,
        "height": height,
        "width": width,
        "duplicates_across_splits": duplicates.across,
        "unreadable": len(report.unreadable),
    }


def _moments(tally: Tally, shape: tuple[int, int, int]) -> dict[str, float]:
    """Count, and mean and standard deviation of all pixel values in [0, 1]."""
    values = tally.count * int(np.prod(shape))
    mean = tally.total / values
    return {"count": tally.count, "mean": mean / 255, "std": max(tally.squares / values - mean**2, 0.0) ** 0.5 / 255}


def _duplicate_rows(duplicates: Duplicates, report: Report, source: Source) -> list[dict[str, Any]]:
    rows = {name: np.concatenate(tally.rows) for name, tally in report.tallies.items()}
    images = {name: source.splits[tally.published].images for name, tally in report.tallies.items()}
    return [
        {"group": number, "split": split, "image": images[split].name(int(rows[split][position]))}
        for number, group in enumerate(duplicates.groups[:_LISTED])
        for split, position in group
    ]


def _figures(folder: Path, train: ImageSplit) -> None:
    _save_thumbnails(folder / "images.png", train.images[: _PER_ROW**2])
    classes, labels = class_names(train.labels.schema), train.labels.classes
    if labels is not None:
        rows = [(labels == label).nonzero()[:_PER_ROW, 0] for label in range(len(classes))]
        _rows_of_images(folder / "classes.png", train, rows)
        counts = torch.bincount(labels, minlength=len(classes)).tolist()
        histogram(folder / "class_histogram.png", classes, counts, "training images")
    if attributes := [attribute for attribute in train.labels.schema if attribute.name != CLASS]:
        columns = [train.labels.column(attribute.name) for attribute in attributes]  # (N,) each
        examples = [_examples(values, attribute) for values, attribute in zip(columns, attributes, strict=True)]
        _rows_of_images(folder / "attributes.png", train, examples)
        binary = [index for index, attribute in enumerate(attributes) if attribute.kind == "binary"]
        if binary:
            frequencies = torch.stack([columns[index] for index in binary], dim=1).mean(dim=0).tolist()
            names = [attributes[index].name for index in binary]
            bars(folder / "attribute_frequencies.png", names, frequencies, "share of training images")


def _examples(values: Tensor, attribute: Attribute) -> Tensor:
    """Rows that show an attribute: images that have it; one or more of each category; from the smallest number to the largest."""
    if attribute.kind == "binary":
        return (values > 0).nonzero()[:_PER_ROW, 0]
    order = values.argsort(stable=True)
    return order[torch.linspace(0, len(order) - 1, min(_PER_ROW, len(order))).round().long()]


def _rows_of_images(path: Path, train: ImageSplit, rows: Sequence[Tensor]) -> None:
    """One row of images per item; white where it has too few, evenly chosen items where there are too many."""
    chosen = np.linspace(0, len(rows) - 1, min(_MOST_ROWS, len(rows))).round().astype(int).tolist()
    cells = torch.full((len(chosen), _PER_ROW, *train.images.shape[1:]), 255, dtype=torch.uint8)
    for line, index in zip(cells, chosen, strict=True):
        line[: len(rows[index])] = train.images[rows[index]]
    _save_thumbnails(path, cells.flatten(0, 1))


def _save_thumbnails(path: Path, images: Tensor) -> None:
    """Large images shrunk, small ones enlarged, to about ``_THUMBNAIL`` pixels: a glance is all that a grid is for."""
    side = max(images.shape[-2:])
    shrink = -(-side // _THUMBNAIL)
    small = F.avg_pool2d(images.float(), shrink, ceil_mode=True).round().to(torch.uint8) if shrink > 1 else images
    save_grid(path, small, columns=_PER_ROW, scale=max(1, _THUMBNAIL // side))


if __name__ == "__main__":
    run_stage("download", main)
