"""Write a finished run as a page that draws and edits in the browser: ``make export-web DIR=...``.

index.html style.css page.js pipeline.js    the page
page.json directions.f32                    samplers by their number of steps; directions of the edits
onnxruntime/                                onnxruntime-web, which runs the networks
*.onnx pipeline.json run.py                 as of ``make export-onnx``
"""

import html
import sys
from pathlib import Path
from string import Template
from typing import Any

import torch

from latentline.core.errors import UserError
from latentline.core.files import replaced_file, write_json
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.time_grid import time_grid
from latentline.editing.targets import Target
from latentline.tools.export_onnx import ExportableRun, export_onnx, load_run, table_of_steps
from latentline.tools.onnx_sampler import sampler_table
from latentline.web.directions import page_directions
from latentline.web.vendored import FOLDER, cache_folder, fetch_runtime, write_runtime

_PAGE = Path(__file__).with_name("page")
_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 25, 32, 40, 50)
"""Numbers of steps that the page offers, besides that of section ``sample``."""


def export_web(folder: Path, cache: Path) -> list[str]:
    """Write ``folder`` from the run in the current folder; return the names of the page's sliders.

    Args:
        folder: to write.
        cache: of the package onnxruntime-web.

    Raises:
        UserError: the run cannot be exported, or onnxruntime-web is not in ``cache`` and cannot be fetched.
    """
    run = load_run()
    package = fetch_runtime(cache)  # both refuse before anything is written
    export_onnx(folder, run)
    write_runtime(folder / FOLDER, package)
    content = page_json(run)
    directions = page_directions(run.params.manipulate, run.params.seed, run.stats, folder)
    if directions is not None:
        targets, vectors = directions
        content["targets"] = [_target_json(target) for target in targets]
        with replaced_file(folder / "directions.f32") as temporary:
            temporary.write_bytes(vectors.numpy().astype("<f4").tobytes())
    networks = sorted({"encoder", "decoder", "denoiser", run.pipeline["guidance"]["network"]})
    networks += [name for name in ("diffusion_decoder", "moments") if run.pipeline[name]]
    names = [*(f"{name}.onnx" for name in networks), f"{FOLDER}/onnxruntime.wasm"]
    content["bytes"] = {name: (folder / name).stat().st_size for name in names}
    write_json(folder / "page.json", content)
    title = html.escape(_title(run.params.data.name))
    for source in sorted(_PAGE.iterdir()):
        text = source.read_text(encoding="utf-8")
        with replaced_file(folder / source.name) as temporary:
            text = Template(text).substitute(title=title) if source.suffix == ".html" else text
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [target["name"] for target in content["targets"]]


def page_json(run: ExportableRun) -> dict[str, Any]:
    """Return what the page needs besides pipeline.json, still without targets and sizes of files."""
    settings, edit = run.params.sample, run.params.manipulate
    return {
        "steps": settings.steps,
        "samplers": {
            str(steps): table_of_steps(settings, run.denoiser.process, steps)
            for steps in sorted({*_STEPS, settings.steps})
        },
        "targets": [],
        "strengths": [min(edit.strengths), max(edit.strengths)],
        "sdedit": _sdedit_json(run) if edit.renoise else None,
    }


def _sdedit_json(run: ExportableRun) -> dict[str, Any]:
    """Return the numbers of SDEdit as stage ``manipulate`` does it: z_t = alpha z0 + sigma noise, then a sampler."""
    edit, process = run.params.manipulate, run.denoiser.process
    start = process.path.at_time(edit.renoise)
    scale = run.denoiser.conditioning.guidance(edit.renoise_guidance_scale, "manipulate.renoise_guidance_scale")
    return {
        "alpha": float(start.alpha),
        "sigma": float(start.sigma),
        "noise": {"seed": run.params.seed, "name": "renoise"},
        "guidance": {"network": "denoiser", "scale": scale, "start": 0, "end": 1, "rescale": 0},
        **sampler_table(dpmpp_2m, process, edit.renoise * time_grid(edit.renoise_steps)),
    }


def _target_json(target: Target) -> dict[str, Any]:
    """Return the name of a target, and the value that an image has to be like it."""
    columns = target.column_index + 1
    (value,) = target.with_target(torch.zeros(1, columns))[:, target.column_index].tolist()
    return {"name": target.name, "attribute": target.attribute.name, "value": value}


def _title(data_name: str) -> str:
    words = (word.upper() if word.endswith("mnist") else word for word in data_name.split("_"))
    return " ".join(words)


def main(arguments: list[str]) -> int:
    """Write the page into the folder that is the only argument, and return the exit status."""
    (folder,) = arguments
    try:
        targets = export_web(Path(folder), cache_folder())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not targets:
        print(
            "the page has no sliders for edits, which need latent classifiers or cached latents with labels; "
            "`dvc repro train_latent_classifiers` makes both"
        )
    print(f"wrote {folder}; open it by `python -m http.server --directory {folder}`")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
