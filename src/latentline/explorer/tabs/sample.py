"""Tab Sample: new images from noise."""

from typing import Any

import gradio as gr

from latentline.core.attributes import CLASS, Attribute
from latentline.explorer.pictures import columns_for, grid
from latentline.explorer.sampling import MAX_COUNT, MAX_SCALE, MAX_STEPS, SampleRequest, draw, samplers
from latentline.explorer.session import Session
from latentline.explorer.tabs.common import IN_TURN, Outbox, friendly, hint, picture, whole

_COUNT = 20
_UNSET = "as in the training images"
_ATTRIBUTES = 12  # controls, at most
_UNMATCHED = "Drawn without moment matching, which holds for the run's own sampler, steps and guidance alone."


def build(session: Session, outbox: Outbox) -> Any:
    """Add the tab, and return the action that draws with the settings as they stand: function, inputs, outputs."""
    run = SampleRequest.of_run(session)
    conditioning = session.model.denoiser.conditioning
    attributes = conditioning.attributes[:_ATTRIBUTES]
    hint("Draw new images from noise. Equal seeds give equal images.")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            given = [_control(attribute) for attribute in attributes]
            prompts = [
                gr.Textbox(
                    session.example_prompt(), label="Prompt", placeholder="what to draw", visible=session.takes_captions
                ),
                gr.Textbox(label="Negative prompt", placeholder="what to avoid", visible=session.takes_captions),
            ]
            with gr.Row():
                count = gr.Slider(1, MAX_COUNT, _COUNT, step=1, label="Images")
                seed = gr.Number(run.seed, label="Seed", precision=0, minimum=0)
            with gr.Accordion("Sampler and guidance", open=False):
                sampler = gr.Dropdown(samplers(session), value=run.sampler, label="Sampler")
                steps = gr.Slider(1, MAX_STEPS, run.steps, step=1, label="Steps from noise to image")
                guided = bool(conditioning.names) or session.takes_captions
                scale = gr.Slider(
                    0, MAX_SCALE, run.guidance_scale, step=0.1, label="Guidance (1 = off)", visible=guided
                )
                start = gr.Slider(0, 1, run.guidance_start, step=0.05, label="Guided from t =", visible=guided)
                end = gr.Slider(0, 1, run.guidance_end, step=0.05, label="Guided up to t =", visible=guided)
            button = gr.Button("Draw", variant="primary", elem_id="sample-draw")
        with gr.Column(scale=3):
            shown = picture("Samples", elem_id="sample-grid")
            steps_shown = picture("From noise (left) to image (right), the first four", elem_id="sample-steps")
            with gr.Row():
                png = gr.DownloadButton("Download PNG", size="sm")
                tensors = gr.DownloadButton("Download safetensors", size="sm")

    @friendly
    def action(*values: Any, progress: Any = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008 - Gradio's way
        """Draw; the values are those of ``inputs``."""
        own, rest = values[: len(given)], values[len(given) :]
        prompt, negative, number, seed_value, name, step_count, *guidance = rest
        request = SampleRequest(
            whole(number, "images"),
            whole(seed_value, "seed"),
            {one.name: _value(one, value) for one, value in zip(attributes, own, strict=True)},
            prompt or "",
            negative or "",
            name,
            whole(step_count, "steps"),
            *guidance,
        )
        drawn = draw(session, request, lambda share: progress(share, desc="Drawing"))
        if drawn.unmatched:
            gr.Info(_UNMATCHED, title="Other settings")
        files = drawn.save(outbox.folder())
        times = [f"t = {t:.2f}" for t in drawn.times]
        return (
            grid(drawn.images, columns_for(drawn.images)),
            grid(drawn.trajectory.flatten(0, 1), len(times), heads=times),
            *map(str, files),
        )

    inputs = [*given, *prompts, count, seed, sampler, steps, scale, start, end]
    outputs = [shown, steps_shown, png, tensors]
    gr.on([button.click, *[box.submit for box in prompts]], action, inputs, outputs, api_name="sample")
    return action, inputs, outputs


def _control(attribute: Attribute) -> Any:
    label = "Class" if attribute.name == CLASS else attribute.name
    if attribute.classes:
        free = IN_TURN if attribute.name == CLASS else _UNSET
        return gr.Dropdown([free, *attribute.classes], value=free, label=label)
    if attribute.kind == "binary":
        return gr.Radio([_UNSET, "no", "yes"], value=_UNSET, label=label)
    return gr.Number(None, label=f"{label} (mean {attribute.mean:.3g}; empty = {_UNSET})")


def _value(attribute: Attribute, value: Any) -> Any:
    """Return the value of an attribute that a control stands for; None = free."""
    if value in (IN_TURN, _UNSET, None):
        return None
    return {"no": 0, "yes": 1}[value] if attribute.kind == "binary" else value
