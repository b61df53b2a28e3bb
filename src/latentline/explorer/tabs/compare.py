"""Tab Compare: two revisions or experiments side by side."""

import io
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from torch import Tensor

from latentline.explorer.compare import HERE, compare, revisions
from latentline.explorer.pictures import grid
from latentline.explorer.session import Session
from latentline.explorer.tabs.common import friendly, hint, picture, whole


def build(session: Session) -> None:
    """Add the tab."""
    names = revisions()
    hint("Two git revisions or DVC experiments: the same seeds side by side, and what differs.")
    with gr.Row():
        left = gr.Dropdown(names, value=HERE, label="Left", allow_custom_value=True)
        right = gr.Dropdown(names, value=names[-1], label="Right", allow_custom_value=True)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        button = gr.Button("Compare", variant="primary", elem_id="compare-run")
    with gr.Row():
        with gr.Column():
            pictures = [picture("Left", elem_id="compare-left")]
        with gr.Column():
            pictures += [picture("Right", elem_id="compare-right")]
    note = hint("")
    tables = gr.HTML(elem_id="compare-tables")

    @friendly
    def action(first: str, second: str, seed_value: Any, progress: Any = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        """Compare."""
        progress(0.1, desc="Reading both runs")
        found = compare(session, (first or "", second or ""), whole(seed_value, "seed"))
        both = None not in found.images  # pictures of one kind only
        images = found.images if both else (None, None)
        shown = [_shown(*one) for one in zip(images, found.pictures, strict=True)]
        text = (
            f"Both drew the same noise of seed {int(seed_value)}, each with its own settings."
            if both
            else "These are the samples that git holds, since the networks of one side are not in DVC's cache."
        )
        same = "" if found.settings else "<p>Both have the same settings.</p>"
        return *shown, text, _table("Settings that differ", found.settings) + same + _table("Scores", found.scores)

    button.click(action, [left, right, seed], [*pictures, note, tables], api_name="compare")


def _shown(images: Tensor | None, picture_of_git: bytes | None) -> Any:
    if images is not None:
        return grid(images, 5, side=72)
    return None if picture_of_git is None else np.asarray(Image.open(io.BytesIO(picture_of_git)).convert("RGB"))


def _table(heading: str, rows: list[tuple[str, str, str]]) -> str:
    """Return a table in HTML; rows with different values are bold. No rows = nothing."""
    if not rows:
        return ""
    cells = "".join(
        f"<tr{' class=differs' * (left != right)}>"
        f"<td>{escape(name)}</td><td>{escape(left)}</td><td>{escape(right)}</td></tr>"
        for name, left, right in rows
    )
    return f"<table><tr><th>{heading}</th><th>left</th><th>right</th></tr>{cells}</table>"
