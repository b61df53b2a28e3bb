"""Warnings of images that use a sliver of their number format, and of stored values that are clipped."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentline.data.decode import UnreadableError, ValueRange
from stages.download.prepare import SplitStats
from stages.download.source import Source

log = logging.getLogger(__name__)

_SLIVER = 64  # levels of 255: a quarter
_CLIPPED = 0.25  # fraction of the stored values
_OUTLIERS = 0.01  # fraction of the images that does not count
_SAMPLE = 1000  # images whose stored values are read
_FEW = 50  # the same without data.value_range, where only floats and 32-bit integers can be clipped


def prepared_range(stats: Iterable[SplitStats]) -> tuple[int, int]:
    """Return the lowest and highest prepared value, of 0 to 255, without the images of most extreme values."""
    low, high = _range_of(np.concatenate([found for split in stats for found in split.extents]))
    return int(low), int(high)


def warn_of_range(stats: dict[str, SplitStats], source: Source, value_range: Sequence[float] | None) -> None:
    """Log one warning where ``data.value_range``, or null, suits the stored values badly.

    It does where the prepared values span at most a quarter of 255, or where more than a quarter of the stored values
    are clipped.
    """
    low, high = prepared_range(stats.values())
    if high - low <= _SLIVER:
        _warn_of_sliver(low, high, _stored_range(stats, source), value_range)
        return
    below, above = _clipped(stats, source, value_range)
    if below + above > _CLIPPED:
        first, last = (f"{value:.7g}" for value in _stored_range(stats, source))
        log.warning(
            "data.value_range (%s) clips %.0f%% of the stored values, which lie from %s to %s: %.0f%% are below it "
            "and become black, %.0f%% are above it and become white; if that is not meant, set it to [%s, %s]",
            "null" if value_range is None else value_range,
            100 * (below + above),
            *(first, last, 100 * below, 100 * above, first, last),
        )


def _warn_of_sliver(low: int, high: int, stored: ValueRange, value_range: Sequence[float] | None) -> None:
    first, last = (f"{value:.7g}" for value in stored)
    if first == last:
        log.warning("all pixels have the value %s, so there is nothing to learn; see fig/download/images.png", first)
        return
    log.warning(
        "data.value_range (%s) leaves a sliver: stored values from %s to %s become %d to %d of 255; "
        "set it to the range that your values can have, such as [%s, %s]",
        "null" if value_range is None else value_range,
        *(first, last, low, high, first, last),
    )


def _stored(stats: dict[str, SplitStats], source: Source, count: int = _SAMPLE) -> Iterator[NDArray[Any]]:
    """Yield the stored values of at most ``count`` images, evenly spaced."""
    rows = [(split.published, row) for split in stats.values() for found in split.rows for row in found.tolist()]
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    for published, row in (rows[index] for index in chosen):
        try:
            yield source.splits[published].images.stored_values(row)
        except UnreadableError:  # it was readable before
            continue


def _stored_range(stats: dict[str, SplitStats], source: Source) -> ValueRange:
    extents = [(float(values.min()), float(values.max())) for values in _stored(stats, source)]
    return _range_of(np.array(extents)) if extents else (0.0, 0.0)


def _clipped(stats: dict[str, SplitStats], source: Source, value_range: Sequence[float] | None) -> tuple[float, float]:
    """Return the fractions of the stored values below black and above white, the mean over images."""
    fractions = []
    for values in _stored(stats, source, _SAMPLE if value_range else _FEW):
        low, high = value_range or (0, 255 if values.dtype.kind == "f" or values.dtype == np.uint8 else 65535)
        fractions.append(((values < low).mean(), (values > high).mean()))
    below, above = np.mean(fractions, axis=0) if fractions else (0.0, 0.0)
    return float(below), float(above)


def _range_of(extents: NDArray[Any]) -> ValueRange:
    """Return the range of (n, 2) lowest and highest values, without the images of most extreme values."""
    low = np.quantile(extents[:, 0], _OUTLIERS, method="lower")
    high = np.quantile(extents[:, 1], 1 - _OUTLIERS, method="higher")
    return float(low), float(high)
