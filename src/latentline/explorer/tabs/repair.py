"""Tab Repair: paint over a part of an image, and fill it."""

from typing import Any

import gradio as gr
import numpy as np

from latentline.explorer.pictures import grid
from latentline.explorer.repair import mask_of_layers, repair
from latentline.explorer.session import Session
from latentline.explorer.start_images import StartImage
from latentline.explorer.tabs.common import ImagePicker, classes_of, friendly, hint, picture, whole

_SIDE = 392  # pixels of the image to paint on, about
_ANY = "any"


def build(session: Session) -> Any:
    """Add the tab, and return the action that puts an image into the editor: function, inputs, outputs."""
    sides = session.model.image_shape[1:]
    scale = max(1, _SIDE // max(sides))
    hint("Paint over a part of the image. The model fills it to fit the rest.")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            source = ImagePicker.build(session, "Image", 7)
            load = gr.Button("Take this image", size="sm", elem_id="repair-load")
            classes = classes_of(session)
            label = gr.Dropdown([_ANY, *classes], value=_ANY, label="Fill as", visible=bool(classes))
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Fill", variant="primary", elem_id="repair-run")
        with gr.Column(scale=3):
            editor = gr.ImageEditor(
                show_label=False,
                type="numpy",
                format="png",
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(default_size=3 * scale, colors=["#D55E00"], default_color="#D55E00", color_mode="fixed"),
                canvas_size=(sides[1] * scale, sides[0] * scale),
                fixed_canvas=True,
                buttons=[],
                height=sides[0] * scale + 110,
                elem_id="repair-editor",
                elem_classes=["picture"],
            )
            shown = picture("The filled image", elem_id="repair-result")
    current = gr.State(None)

    @friendly
    def take(*chosen: Any) -> tuple[Any, StartImage]:
        """Put the chosen image into the editor."""
        picked = source.pick(*chosen)
        pixels = picked.image[0].permute(1, 2, 0).numpy().repeat(scale, axis=0).repeat(scale, axis=1)
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), picked

    @friendly
    def action(painted: Any, picked: StartImage | None, name: str, seed_value: Any) -> Any:
        """Fill the painted part."""
        layers = [layer for layer in (painted or {}).get("layers") or [] if layer is not None]
        start = picked or source.pick(*[component.value for component in source.inputs])
        mask = mask_of_layers(layers, (sides[0], sides[1]))
        filled = repair(session, start, mask, None if name == _ANY else name, whole(seed_value, "seed"))
        return grid(filled, 3, heads=("original", "what stays", "filled"), side=210)

    @friendly
    def take_first(picked: StartImage | None, *chosen: Any) -> Any:
        """Put an image into the editor unless there is one."""
        return (gr.skip(), gr.skip()) if picked else take(*chosen)

    load.click(take, source.inputs, [editor, current], api_visibility="private")
    button.click(action, [editor, current, label, seed], shown, api_name="repair")
    return take_first, [current, *source.inputs], [editor, current]
