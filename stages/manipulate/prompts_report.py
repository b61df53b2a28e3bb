"""Report the edits between two captions: prompts.png, prompts.csv, and their part of metrics/manipulate.json."""

from pathlib import Path
from typing import Any

import torch

from latentline.figures.grids import GridText, save_grid
from latentline.figures.plots import curves, write_table
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
    columns = ["original", *(f"{row['strength']:g}" for row in edits.table)]
    title = f"Edits from '{source}' to '{target}'"
    text = GridText(title, "One test image per row.", columns=columns, across="strength of the edit")
    save_grid(folder / "prompts.png", images.flatten(0, 1), len(columns), 2, text)
    write_table(folder / "prompts.csv", edits.table)
    names = {name: name.replace("_", " ") for name in edits.table[0] if name != "strength"}
    title = f"{title}, {len(edits.originals)} images"
    curves(folder / "prompts_scores.png", edits.table, "strength", names, "share, similarity", title=title)
    return {
        "prompts": {"from": source, "to": target, "count": len(edits.originals), "by_strength": edits.table},
    }
