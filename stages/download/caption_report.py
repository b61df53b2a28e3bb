"""Metrics, log, figure and tables of the captions; nothing of data without captions."""

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from latentline.data.store import ImageSplit
from latentline.figures.grids import GridText, save_grid
from latentline.figures.plots import write_table
from stages.download.listed import MAX_LISTED
from stages.download.prepare import PrepareResult
from stages.download.source import Source

log = logging.getLogger(__name__)

_NAMED = 3  # examples in a message
_PER_SPLIT = 30  # captions in their table
_LONGEST_LISTED = 200  # characters
_DRAWN = 12  # images
_PER_ROW = 4
_WIDTH = 180  # pixels of an image, at least, for its caption


def caption_metrics(source: Source, result: PrepareResult) -> dict[str, Any]:
    """Return the entry ``captions`` of metrics/data.json, ``{}`` for data without captions."""
    if source.captions is None:
        return {}
    splits = {
        name: {key: value for key, value in split.items() if key != "sha256"} for name, split in result.captions.items()
    }
    stray = len(source.captions.without_image)
    return {"captions": {"found_in": source.captions.found_in, "without_image": stray, **splits}}


def log_captions(source: Source, result: PrepareResult) -> None:
    """Log where captions were found, and how many are missing or belong to no image, with the first names."""
    if source.captions is None:
        return
    count = sum(split["count"] for split in result.captions.values())
    log.info("captions: found in %s, for %d images; data.captions: none ignores them", source.captions.found_in, count)
    if missing := sum(split["missing"] for split in result.captions.values()):
        examples = islice((name for _, name, caption in _captions(source, result) if not caption), _NAMED)
        counts = ", ".join(f"{name} {split['missing']}" for name, split in result.captions.items())
        log.warning(
            "captions: %d of %d images have none (%s), such as %s; they are stored as empty",
            *(missing, count, counts, ", ".join(examples)),
        )
    if stray := source.captions.without_image:
        log.warning(
            "captions: %d belong to no image, such as %s; fig/download/captions_unmatched.csv lists them",
            *(len(stray), ", ".join(stray[:_NAMED])),
        )


def write_caption_figures(folder: Path, train: ImageSplit, source: Source, result: PrepareResult) -> None:
    """Write captions.png, captions.csv (the first ones of each split) and captions_unmatched.csv (name and kind)."""
    if source.captions is None:
        return
    rows: list[dict[str, str]] = []
    unmatched: list[dict[str, str]] = []
    listed: Counter[str] = Counter()
    for split, name, caption in _captions(source, result):
        if not caption and len(unmatched) < MAX_LISTED:
            unmatched.append({"name": name, "kind": "image without a caption"})
        if listed[split] < _PER_SPLIT:
            listed[split] += 1
            rows.append({"split": split, "image": name, "caption": _short(caption)})
    stray = source.captions.without_image[: MAX_LISTED - len(unmatched)]
    unmatched += [{"name": name, "kind": "caption without an image"} for name in stray]
    write_table(folder / "captions.csv", [row | {"found_in": source.captions.found_in} for row in rows])
    write_table(folder / "captions_unmatched.csv", unmatched, ["name", "kind"])
    shown = [row["caption"] for row in rows if row["split"] == "train"][:_DRAWN]
    images = train.images[: len(shown)]
    text = GridText("Training images and their captions", f"The first {len(shown)} of {len(train)}.", cells=shown)
    save_grid(folder / "captions.png", images, _PER_ROW, max(1, round(_WIDTH / images.shape[-1])), text)


def _short(caption: str) -> str:
    return caption if len(caption) <= _LONGEST_LISTED else f"{caption[: _LONGEST_LISTED - 1]}\u2026"


def _captions(source: Source, result: PrepareResult) -> Iterator[tuple[str, str, str]]:
    """Yield split, name and caption of each prepared image, in order."""
    for name, split in result.stats.items():
        published = source.splits[split.published]
        for row in np.concatenate(split.rows).tolist():
            yield name, published.images.name(row), published.captions[row] if published.captions else ""
