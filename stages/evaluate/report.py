"""Draw the figures of the scores."""

from pathlib import Path
from typing import Any

from torch import Tensor

from latentline.core.shards import ShardedArray
from latentline.evaluation.agreement import ConfusionSample
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import bars, confusion

_COLUMNS = 16
_BARS = {"real_test": "fd_real_test", "reconstructions": "fd_reconstruction", "samples": "fd"}


def draw(
    folder: Path,
    metrics: dict[str, Any],
    samples: ShardedArray,
    train: ShardedArray,
    neighbours: Tensor,
    confusions: ConfusionSample | None,
) -> None:
    """Write the figures into ``folder``.

    Args:
        folder: fig/evaluate.
        metrics: of metrics/evaluate.json.
        samples: images.
        train: images.
        neighbours: index of the nearest training image (M,) of the first M samples.
        confusions: of the diffusion classifier; None = it is off.
    """
    heights = {name: metrics[score] for name, score in _BARS.items() if metrics[score] is not None}
    bars(folder / "fd.png", list(heights), list(heights.values()), "Frechet distance to train")
    if "caption_retrieval" in metrics:
        recall = metrics["caption_retrieval"]["recall_at_1"]
        present = {name: value for name, value in recall.items() if value is not None}
        bars(folder / "caption_retrieval.png", list(present), list(present.values()), "caption retrieval, R@1")
    shown = neighbours[:_COLUMNS]
    rows = alternating_rows([samples[: len(shown)], train[shown]], len(shown))
    save_grid(folder / "nearest_train.png", rows, columns=len(shown), scale=2)
    if confusions is not None:
        confusion(folder / "bayes_confusion.png", *confusions)
