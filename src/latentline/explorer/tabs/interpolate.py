"""Tab Interpolate: the images between two images."""

from typing import Any

import gradio as gr

from latentline.explorer.interpolation import MAX_IMAGES, WAYS, interpolate
from latentline.explorer.pictures import animation, columns_for, grid
from latentline.explorer.session import Session
from latentline.explorer.tabs.common import ImagePicker, Outbox, friendly, hint, picture, whole


def build(session: Session, outbox: Outbox) -> None:
    """Add the tab."""
    hint("Walk from one image to another through the latents between them.")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            first = ImagePicker.build(session, "From", 0)
            last = ImagePicker.build(session, "To", 1)
            way = gr.Radio(list(WAYS), value="spherical", label="Path")
            count = gr.Slider(2, MAX_IMAGES, 16, step=1, label="Images")
            button = gr.Button("Interpolate", variant="primary", elem_id="interpolate-run")
        with gr.Column(scale=3):
            strip = picture("From the first image to the last", elem_id="interpolate-strip")
            loop = picture(
                "The same as an animation",
                type="filepath",
                format="gif",
                height=280,
                buttons=["download"],
                elem_id="interpolate-loop",
            )

    @friendly
    def action(*values: Any) -> tuple[Any, str]:
        """Interpolate; the values are those of the two pickers, the path and the number."""
        images = interpolate(
            session, first.pick(*values[:3]), last.pick(*values[3:6]), whole(values[7], "images"), values[6]
        )
        return grid(images, min(8, columns_for(images))), str(animation(outbox.folder() / "interpolation.gif", images))

    button.click(action, [*first.inputs, *last.inputs, way, count], [strip, loop], api_name="interpolate")
