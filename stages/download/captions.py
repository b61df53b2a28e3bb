"""Checks of captions before any image is written."""

import math

from latentline.core.errors import UserError
from stages.download.source import Source
from stages.download.splits import SplitRows

_NAMED = 3  # images in a message


def require_captions(source: Source, name: str, split: SplitRows, limit: int | None, allowed: float) -> None:
    """Raise UserError where too many images of a split lack a caption; data without captions passes.

    The limit is rounded up to whole images, so that one missing caption does not refuse a split of five.

    Args:
        source: the images.
        name: of the split.
        split: its images.
        limit: ``data.limit``.
        allowed: ``data.max_missing_captions``.
    """
    published = source.splits[split.published]
    if published.captions is None or source.captions is None:
        return
    rows = split.rows[:limit].tolist()
    missing = [row for row in rows if not published.captions[row]]
    if len(missing) > math.ceil(round(allowed * len(rows), 6)):
        examples = ", ".join(published.images.name(row) for row in missing[:_NAMED])
        stray = source.captions.without_image[:1]
        raise UserError(
            f"data.max_missing_captions ({allowed}) must be at least the fraction of images without a caption, "
            f"{len(missing)} of {len(rows)} in {name}, such as {examples}"
            f"{f', while {stray[0]} belongs to no image' if stray else ''} "
            f"(captions: {source.captions.found_in}); add captions, raise it, or set data.captions to none"
        )
