"""Section ``evaluate``: the scores that need the judge."""

from latentline.params.base import Positive, Section


class EvaluateParams(Section):
    """Knobs of stage ``evaluate``."""

    max_images: Positive | None
    """Images of each set that the judge looks at, at most; None = all."""
    neighbours: Positive
    """k of precision, recall, density and coverage."""
    pair_count: Positive
    """Images of each set that scores of pairs (those four, kernel distance, nearest-train distance) look at, at most."""
