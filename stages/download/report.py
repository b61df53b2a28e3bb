"""Metrics, figures and tables of the prepared images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.labels import class_names
from latentline.data.decode import Shape
from latentline.data.store import ImageSplit
from latentline.figures.grids import GridText, save_grid
from latentline.figures.plots import bars, histogram, write_table
from stages.download.duplicates import Duplicates
from stages.download.listed import MAX_LISTED
from stages.download.prepare import PrepareResult, SplitStats
from stages.download.source import Source
from stages.download.value_range import prepared_range

_PER_ROW = 10  # images of a class or attribute in the grid
_MAX_ROWS = 40  # classes or attributes in the grid
_THUMBNAIL = 64  # pixels
_MAX_KINDS = 20  # kinds of files in the metrics


def metrics(result: PrepareResult, duplicates: Duplicates, classes: Sequence[str], source: Source) -> dict[str, Any]:
    """Return the content of metrics/data.json."""
    low, high = prepared_range(result.stats.values())
    columns: dict[str, Any] = {}
    if source.columns:
        columns["columns"] = {column.name: asdict(column) for column in source.columns}
        columns["without_value"] = source.without_value
    splits = {
        name: {**_moments(split, result.shape), "duplicates": duplicates.within[name]}
        for name, split in result.stats.items()
    }
    channels, height, width = result.shape
    return {
        **splits,
        "classes": len(classes),
        "channels": channels,
        "height": height,
        "width": width,
        "duplicates_across_splits": duplicates.across,
        "unreadable": result.unreadable.count,
        "cropped": result.cropped.count,
        "left_out": {"files": len(source.left_out), **_counts(source.left_out.values())},
        "lowest_value": low,
        "highest_value": high,
        **columns,
    }


def _counts(kinds: Iterable[str]) -> dict[str, int]:
    """Return how many files there are of each of the commonest kinds, and of all others together."""
    counts = Counter(kind.removeprefix(".") for kind in kinds)  # DVC splits names of metrics at dots
    common = dict(sorted(counts.most_common(_MAX_KINDS)))
    rest = counts.total() - sum(common.values())
    return common | ({"of other kinds": rest} if rest else {})


def _moments(split: SplitStats, shape: Shape) -> dict[str, float]:
    """Return the count, and mean and standard deviation of all pixel values in [0, 1]."""
    values = split.count * int(np.prod(shape))
    mean = split.total / values
    return {"count": split.count, "mean": mean / 255, "std": max(split.squares / values - mean**2, 0.0) ** 0.5 / 255}


def duplicate_rows(duplicates: Duplicates, result: PrepareResult, source: Source) -> list[dict[str, Any]]:
    """Return the rows of duplicates.csv: the largest groups of equal images, by the names of their images."""
    rows = {name: np.concatenate(split.rows) for name, split in result.stats.items()}
    images = {name: source.splits[split.published].images for name, split in result.stats.items()}
    return [
        {"group": number, "split": split, "image": images[split].name(int(rows[split][position]))}
        for number, group in enumerate(duplicates.groups)
        for split, position in group
    ]


def write_tables(folder: Path, result: PrepareResult, repeated: list[dict[str, Any]], source: Source) -> None:
    """Write unreadable.csv (name and reason of each image), cropped.csv, duplicates.csv, and left_out.csv.

    Of a CSV of labels also attributes.csv.
    """
    left_out = source.left_out
    if source.columns:
        write_table(folder / "attributes.csv", [asdict(column) for column in source.columns])
    listed = [{"image": name, "reason": reason} for name, reason in sorted(result.unreadable.reasons.items())]
    write_table(folder / "unreadable.csv", listed or [{"image": "none", "reason": ""}])
    lost = [{"image": name, "cut_off": share} for name, share in result.cropped.worst]
    write_table(folder / "cropped.csv", lost or [{"image": "none", "cut_off": 0.0}])
    write_table(folder / "duplicates.csv", repeated or [{"group": 0, "split": "none", "image": ""}])
    files = [{"file": name, "kind": kind} for name, kind in sorted(left_out.items())[:MAX_LISTED]]
    write_table(folder / "left_out.csv", files or [{"file": "none", "kind": ""}])


def draw_figures(folder: Path, train: ImageSplit) -> None:
    """Draw training images: the first ones, examples of each class and attribute, and how frequent these are."""
    count = min(_PER_ROW**2, len(train))
    first = GridText("Training images", f"The first {count} of {len(train)}, as prepared.")
    _save_thumbnails(folder / "images.png", train.images[:count], first)
    classes, labels = class_names(train.labels.schema), train.labels.classes
    if labels is not None:
        rows = [(labels == label).nonzero()[:_PER_ROW, 0] for label in range(len(classes))]
        _rows_of_images(folder / "classes.png", train, rows, "Training images of each class", classes)
        counts = torch.bincount(labels, minlength=len(classes)).tolist()
        title = f"Training images per class, {len(train)} in total"
        histogram(folder / "class_histogram.png", classes, counts, "training images", title=title)
    if attributes := [attribute for attribute in train.labels.schema if attribute.name != CLASS]:
        columns = [train.labels.column(attribute.name) for attribute in attributes]  # (N,) each
        examples = [_examples(values, attribute) for values, attribute in zip(columns, attributes, strict=True)]
        title = "Training images with each attribute; of a number, from its lowest to its highest value"
        _rows_of_images(folder / "attributes.png", train, examples, title, [one.name for one in attributes])
        binary = [index for index, attribute in enumerate(attributes) if attribute.kind == "binary"]
        if binary:
            frequencies = torch.stack([columns[index] for index in binary], dim=1).nanmean(dim=0).tolist()
            names = [attributes[index].name for index in binary]
            title = "How frequent each attribute is"
            bars(folder / "attribute_frequencies.png", names, frequencies, "share of training images", title=title)


def _examples(values: Tensor, attribute: Attribute) -> Tensor:
    """Return rows of images that have a binary attribute, or that span the values of another one in ascending order.

    Images without a value are left out.
    """
    if attribute.kind == "binary":
        return (values > 0).nonzero()[:_PER_ROW, 0]
    order = values.argsort(stable=True)[: int((~values.isnan()).sum())]  # missing values come last
    return order[torch.linspace(0, len(order) - 1, min(_PER_ROW, len(order))).round().long()]


def _rows_of_images(path: Path, train: ImageSplit, rows: Sequence[Tensor], title: str, names: Sequence[str]) -> None:
    """Draw one row of images per item: white where it has too few, evenly spaced items where there are too many."""
    chosen = np.linspace(0, len(rows) - 1, min(_MAX_ROWS, len(rows))).round().astype(int).tolist()
    cells = torch.full((len(chosen), _PER_ROW, *train.images.shape[1:]), 255, dtype=torch.uint8)
    for line, index in zip(cells, chosen, strict=True):
        line[: len(rows[index])] = train.images[rows[index]]
    note = f"{len(chosen)} of {len(rows)} rows, evenly spaced." if len(chosen) < len(rows) else ""
    _save_thumbnails(path, cells.flatten(0, 1), GridText(title, note, [names[index] for index in chosen]))


def _save_thumbnails(path: Path, images: Tensor, text: GridText) -> None:
    """Draw a grid of images, shrunk or enlarged to about ``_THUMBNAIL`` pixels."""
    side = max(images.shape[-2:])
    shrink = -(-side // _THUMBNAIL)
    small = F.avg_pool2d(images.float(), shrink, ceil_mode=True).round().to(torch.uint8) if shrink > 1 else images
    save_grid(path, small, columns=_PER_ROW, scale=max(1, _THUMBNAIL // side), text=text)
