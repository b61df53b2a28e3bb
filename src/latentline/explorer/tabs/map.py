"""Tab Map: latents as points of a plane."""

from importlib.resources import files
from typing import Any

import gradio as gr

from latentline.core.attributes import CLASS
from latentline.core.errors import UserError
from latentline.explorer.latent_map import WAYS, around, latent_map
from latentline.explorer.map_page import map_html
from latentline.explorer.pictures import grid
from latentline.explorer.session import Session
from latentline.explorer.tabs.common import friendly, hint, picture

_PLAIN = "nothing"


def build(session: Session) -> Any:
    """Add the tab, and return the action that draws the map: function, inputs, outputs."""
    colors = {"class" if one.name == CLASS else one.name: one for one in session.schema}
    hint("Each point is an image. Point at one to see it; click anywhere to decode that place and what lies around it.")
    with gr.Row():
        with gr.Column(scale=3):
            shown = gr.HTML(
                js_on_load=files("latentline.explorer").joinpath("map.js").read_text(), elem_id="map-points"
            )
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                way = gr.Radio(WAYS, value=WAYS[0], label="Projection")
                color = gr.Dropdown([*colors, _PLAIN], value=next(iter(colors), _PLAIN), label="Colour by")
            button = gr.Button("Draw the map", variant="primary", elem_id="map-run")
            decoded = picture("Decoded around your click", elem_id="map-decoded")
            note = hint("")

    @friendly
    def action(chosen: str, colored: str, progress: Any = gr.Progress()) -> tuple[str, str]:  # noqa: B008
        """Draw the map."""
        if colored not in (*colors, _PLAIN):
            raise UserError(f"colour ({colored}) must be one of {', '.join(colors)}; correct it")
        progress(0.1, desc="Computing the map; t-SNE takes some seconds")
        found, gallery = latent_map(session, chosen), session.gallery()
        kind = "samples (the test images are not here)" if gallery.are_samples else "test images"
        text = f"{len(gallery.images)} {kind}."
        if found.axes is not None:
            text += f" The plane holds {found.explained:.0%} of their variance."
        return map_html(found, gallery, colors.get(colored)), text

    @friendly
    def clicked(chosen: str, event: gr.EventData) -> Any:
        """Decode around a click."""
        x, y = (getattr(event, name, float("nan")) for name in ("x", "y"))
        return grid(around(session, chosen, x, y), 5, side=60)

    button.click(action, [way, color], [shown, note], api_name="map")
    gr.on([way.change, color.change], action, [way, color], [shown, note], api_visibility="private")
    shown.click(clicked, way, decoded, api_visibility="private")
    return action, [way, color], [shown, note]
