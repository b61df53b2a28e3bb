"""Draw the figures of the scores."""

from pathlib import Path
from typing import Any

from torch import Tensor

from latentline.core.shards import ShardedArray
from latentline.evaluation.agreement import ConfusionSample
from latentline.figures.grids import GridText, alternating_rows, save_grid
from latentline.figures.plots import bars, confusion

_COLUMNS = 16
_BARS = {"test images": "fd_real_test", "their reconstructions": "fd_reconstruction", "samples": "fd"}


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
    names = [f"{metrics['count']} samples" if name == "samples" else name for name in heights]
    title, label = "Frechet distance to the training images", "Frechet distance (lower is closer)"
    bars(folder / "fd.png", names, list(heights.values()), label, title=title)
    if "caption_retrieval" in metrics:
        recall = metrics["caption_retrieval"]["recall_at_1"]
        present = {name: value for name, value in recall.items() if value is not None}
        title = "Share of images whose own caption is the nearest of all"
        bars(folder / "caption_retrieval.png", list(present), list(present.values()), "share (R@1)", title=title)
    shown = neighbours[:_COLUMNS]
    rows = alternating_rows([samples[: len(shown)], train[shown]], len(shown))
    note = "Nearest in the features of the feature extractor. A copy would look the same."
    text = GridText("Samples above their nearest training images", note, ["sample", "nearest"])
    save_grid(folder / "nearest_train.png", rows, columns=len(shown), scale=2, text=text)
    if confusions is not None:
        title = "The denoiser as a classifier of test images: number of images"
        confusion(folder / "bayes_confusion.png", *confusions, title=title)
