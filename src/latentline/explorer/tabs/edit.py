"""Tab Edit: one image, changed through its latent."""

from typing import Any

import gradio as gr

from latentline.explorer.editing import MAX_STRENGTH, TITLES, EditRequest, directions, edit
from latentline.explorer.pictures import grid
from latentline.explorer.session import Session
from latentline.explorer.tabs.common import ImagePicker, friendly, hint, picture, whole

_SLIDERS = 18


def build(session: Session) -> Any:
    """Add the tab, and return the action that edits with the settings as they stand: function, inputs, outputs."""
    names = [direction.target.name for direction in directions(session)]
    is_diffae = session.model.autoencoder.network.noise_shape is not None
    hint("Change an image through its latent. Move a slider and let go.")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            source = ImagePicker.build(session, "Image", 7)
            with gr.Accordion("From one caption to another", open=True, visible=session.takes_captions):
                prompts = [gr.Textbox(label="Caption of the image"), gr.Textbox(label="Caption to go to")]
                strength = gr.Slider(0, MAX_STRENGTH, 1.5, step=0.25, label="Strength")
            renoise = gr.Slider(0, 0.95, 0, step=0.05, label="Re-noise up to t", visible=session.has_denoiser)
            with gr.Accordion("Mix with another image" + " (style mixing)" * is_diffae, open=False):
                other = ImagePicker.build(session, "Other image", 1)
                mix = gr.Slider(0, 1, 0, step=0.05, label="Share of the other image")
            keep = gr.Checkbox(True, label="Keep the image's own noise x_T (what the latent lacks)", visible=is_diffae)
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, visible=session.has_denoiser or is_diffae)
                reset = gr.Button("Reset", size="sm")
            button = gr.Button("Edit", variant="primary", elem_id="edit-run")
        with gr.Column(scale=3):
            shown = picture("What the feature extractor says of each image stands below it.", elem_id="edit-result")
            sliders = _sliders(names)

    @friendly
    def action(*values: Any) -> Any:
        """Edit; the values are those of ``inputs``."""
        strengths, rest = values[: len(sliders)], values[len(sliders) :]
        chosen, mixed, (before, after, factor, t, share, kept, seed_value) = rest[:3], rest[3:6], rest[6:]
        request = EditRequest(
            dict(zip(names, strengths, strict=False)),
            share,
            t,
            (before or "", after or ""),
            factor,
            whole(seed_value, "seed"),
            kept,
        )
        second = other.pick(*mixed) if share else None
        result = edit(session, source.pick(*chosen), request, second)
        return grid(result.images, 4, heads=TITLES, cells=result.names if any(result.names[:3]) else (), side=210)

    inputs = [*sliders, *source.inputs, *other.inputs, *prompts, strength, renoise, mix, keep, seed]
    gr.on(
        [
            button.click,
            *[slider.release for slider in (*sliders, renoise, mix)],
            *[event for picker in (source, other) for event in picker.events],
        ],
        action,
        inputs,
        shown,
        api_name="edit",
        trigger_mode="always_last",
    )
    zeros = [*sliders, renoise, mix]
    reset.click(lambda: [0] * len(zeros), None, zeros, api_visibility="private").then(
        action, inputs, shown, api_visibility="private"
    )
    return action, inputs, shown


def _sliders(names: list[str]) -> list[Any]:
    """Add a slider for each of the first directions, and return them."""
    if not names:
        return []
    hint("Directions, in standard deviations of the latents" + f"; the first {_SLIDERS}" * (len(names) > _SLIDERS))
    with gr.Row(elem_classes=["sliders"]):
        return [gr.Slider(-MAX_STRENGTH, MAX_STRENGTH, 0, step=0.5, label=name) for name in names[:_SLIDERS]]
