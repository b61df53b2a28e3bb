"""Warnings of valid labels that are rarely meant: near-equal names, a class per image, classes without training."""

import logging
import unicodedata

import numpy as np

from stages.download.prepare import SplitStats
from stages.download.source import Source

log = logging.getLogger(__name__)

_FEW = 10  # categories: so many may well be meant
_NAMED = 3  # examples in a message


def warn_of_labels(source: Source, stats: dict[str, SplitStats]) -> None:
    """Log one line for each kind of oddity in each column of labels of the prepared images."""
    total = sum(split.count for split in stats.values())
    categorical = {column.name: column.classes for column in source.card.attributes if column.classes}
    for name, classes in {"label": source.card.classes, **categorical}.items():
        if near := _near_equal(classes):
            shown = ", ".join(" and ".join(map(repr, names)) for names in near[:_NAMED])
            log.warning(
                "%s: names that differ only in case, blanks or Unicode form are different classes: %s%s",
                *(name, shown, ", ..." * (len(near) > _NAMED)),
            )
        if len(classes) > max(_FEW, total / 2):
            log.warning(
                "%s: %d classes for %d images, so hardly two images share one, such as %r; join classes, or write "
                "numbers without units",
                *(name, len(classes), total, classes[0]),
            )
    _warn_of_untrained(source, stats)


def _near_equal(classes: tuple[str, ...]) -> list[list[str]]:
    """Return groups of names that are equal but for case, blanks and Unicode form."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _warn_of_untrained(source: Source, stats: dict[str, SplitStats]) -> None:
    """Log how many classes have images in val or test only."""
    used = {}
    for name, split in stats.items():
        if (labels := source.splits[split.published].labels) is None:
            return
        used[name] = np.unique(labels[np.concatenate(split.rows)])
    if len(untrained := np.setdiff1d(np.concatenate(list(used.values())), used["train"])):
        names = ", ".join(source.card.classes[index] for index in untrained[:_NAMED])
        log.warning(
            "label: %d classes have images in val or test and none in train, such as %s; add images, or lower "
            "data.splits",
            *(len(untrained), names),
        )
