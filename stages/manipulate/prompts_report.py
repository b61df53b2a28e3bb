"""Report the edits between two captions: prompts.png, prompts.csv, and their part of metrics/manipulate.json."""

from pathlib import Path
from typing import Any

import torch

from latentline.figures.plots import captioned_images, curves, write_table
from stages.manipulate.prompts import PromptEdits

_ROWS = 5  # images of prompts.png, at most


def report_prompts(folder: Path, edits: PromptEdits | None) -> dict[str, Any]:
    """Write prompts.png, prompts.csv and prompts_scores.png to ``folder``, and return the metrics.

    prompts.png has one image per row: the original, then the edit at each strength. Without ``edits`` there is nothing
    to write or to return.
    """
    if edits is None:
        return {}
    source, target = edits.prompts
    images = torch.cat([edits.originals[None], edits.images])[:, :_ROWS].transpose(0, 1)  # (rows, 1 + strengths, ...)
    labels = ["original", *(f"strength {row['strength']:g}" for row in edits.table)]
    labels[-1] += f", from '{source}' to '{target}'"
    captions = [label for _ in images for label in labels]
    captioned_images(folder / "prompts.png", images.flatten(0, 1).numpy(), captions, len(labels))
    write_table(folder / "prompts.csv", edits.table)
    names = [name for name in edits.table[0] if name != "strength"]
    curves(folder / "prompts_scores.png", edits.table, "strength", names, "share, similarity")
    return {
        "prompts": {"from": source, "to": target, "count": len(edits.originals), "by_strength": edits.table},
    }
