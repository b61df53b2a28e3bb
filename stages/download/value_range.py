"""Warning of images that use only a sliver of their number format, such as 12 bits in 16-bit files."""

import logging
from collections.abc import Iterable

import numpy as np

from latentline.data.decode import UnreadableError, ValueRange
from stages.download.prepare import SplitStats
from stages.download.source import Source

log = logging.getLogger(__name__)

_SLIVER = 64  # levels of 255: a quarter
_OUTLIERS = 0.01  # fraction of the images that does not count
_SAMPLE = 1000  # images whose stored values are read


def prepared_range(stats: Iterable[SplitStats]) -> tuple[int, int]:
    """Return the lowest and highest prepared value, of 0 to 255, without the images of most extreme values."""
    low, high = _range_of(np.concatenate([found for split in stats for found in split.extents]))
    return int(low), int(high)


def warn_of_sliver(stats: dict[str, SplitStats], source: Source, value_range: list[float] | None) -> None:
    """Log one warning with the stored values' range where the prepared values span at most a quarter of 255."""
    low, high = prepared_range(stats.values())
    if high - low > _SLIVER:
        return
    first, last = (f"{value:.7g}" for value in _stored_range(stats, source))
    if first == last:
        log.warning("all pixels have the value %s, so there is nothing to learn; see fig/download/images.png", first)
        return
    log.warning(
        "data.value_range (%s) leaves a sliver: stored values from %s to %s become %d to %d of 255; "
        "set it to the range that your values can have, such as [%s, %s]",
        "null" if value_range is None else value_range,
        *(first, last, low, high, first, last),
    )


def _stored_range(stats: dict[str, SplitStats], source: Source) -> ValueRange:
    """Return the lowest and highest stored value of at most ``_SAMPLE`` images, evenly spaced."""
    rows = [(split.published, row) for split in stats.values() for found in split.rows for row in found.tolist()]
    chosen = np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).round().astype(int)
    extents = []
    for published, row in (rows[index] for index in chosen):
        try:
            extents.append(source.splits[published].images.stored_extent(row))
        except UnreadableError:  # it was readable before
            continue
    return _range_of(np.array(extents)) if extents else (0.0, 0.0)


def _range_of(extents: np.ndarray) -> ValueRange:
    """Return the range of (n, 2) lowest and highest values, without the images of most extreme values."""
    low = np.quantile(extents[:, 0], _OUTLIERS, method="lower")
    high = np.quantile(extents[:, 1], 1 - _OUTLIERS, method="higher")
    return float(low), float(high)
