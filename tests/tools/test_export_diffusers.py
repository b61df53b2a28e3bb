"""``make export-diffusers``: diffusers draws the images of the run, where latentline cannot be imported."""

import builtins
import dis
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest
import torch

from latentline.core.errors import UserError
from latentline.latents.pretrained_text import read_info, read_pretrained_tokenizer
from latentline.latents.tokenizer import train_tokenizer
from latentline.tools.export_diffusers import export_diffusers
from latentline.tools.single_file import single_file
from stages.sample.draw import ImageSampler, load_image_sampler
from stages.sample.params import SampleParams
from support.captioned import CAPTIONS
from support.exported_run import ALL, GAUSSIAN, VELOCITY, V, write_moments, write_run

SEED, COUNT, LENGTH = 3, 5, 6
PROMPTS = ["A red square", "a blue bar", "a red bar"]
LEARNT = {"guidance_scale": 3.5, "guidance_start": 0.15, "guidance_end": 0.6}
AUTOENCODER_KL = {
    "encoder_blocks": [1, 1],
    "decoder_blocks": [2, 2],
    "latent_dim": None,
    "groups": 4,
    "attention_levels": [],
    "attention_heads": 1,
    "causal_attention": False,
}
PROGRAM = """
import json, sys

class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "latentline":
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
from diffusers import DiffusionPipeline

def load(folder):
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, low_cpu_mem_usage=False)

arguments = json.load(sys.stdin)
pipes = {folder: load(folder) for folder in arguments}  # all of them, before any is used
for folder, pipe in pipes.items():
    images = [np.atleast_3d(np.asarray(image)) for image in pipe(**arguments[folder]).images]
    np.save(f"{folder}/images.npy", np.stack(images).transpose(0, 3, 1, 2))
    np.save(f"{folder}/latents.npy", pipe(2, output_type="latent").images)
    np.save(f"{folder}/one_step.npy", pipe(**arguments[folder], num_inference_steps=1, output_type="latent").images)
messages = {}
for folder, refused in json.loads(sys.argv[1]):
    try:
        pipes[folder](**refused)
    except ValueError as error:
        messages[json.dumps(refused)] = str(error)
print(json.dumps(messages))
assert "latentline" not in sys.modules
"""


@dataclass(frozen=True)
class Case:
    """One run: its networks, its process, its settings of stage ``sample``."""

    denoiser: str
    autoencoder: str
    process: Mapping[str, Any]
    sample: Mapping[str, Any] = field(default_factory=dict)
    conditional: bool = True
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    captions: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)  # other settings that section sample must fit
    moment_classes: int | None = None  # None = there are no moment maps


CASES = {
    "vae": Case(
        "unet",
        "vae",
        VELOCITY,
        changes={"autoencoder": {"network": "conv"}, "denoiser": {"gaussian": GAUSSIAN}},
        moment_classes=3,
    ),
    "autoencoder_kl": Case(
        "dit",
        "vae of stable diffusion",
        V,
        {"sampler": "heun", "guidance_rescale": 0.7},
        changes={"autoencoder": AUTOENCODER_KL},
    ),
    "diffae": Case(
        "mlp", "diffae", V, {"sampler": "dpmpp_2m", "time_grid": "karras"}, conditional=False, moment_classes=0
    ),
    "own_noise": Case("dit", "identity", V, {"sampler": "ddpm", "steps": 9, "guide": "own"}),
    "flow_map": Case(
        "mlp",
        "ae of vectors",
        VELOCITY | {"flow_map": LEARNT},
        {"sampler": "flow_map", "steps": 2},
        changes={"denoiser": {"average_velocity": True}},
        params={"denoiser.objective": "flow_map", "denoiser.init_from": "flow"},
    ),
    "captions": Case("unet", "ae", VELOCITY, {"prompts": PROMPTS, "negative_prompt": "a green bar"}, captions="own"),
}
CLIP = {"clip": Case("dit", "ae", VELOCITY, {"prompts": PROMPTS}, conditional=False, captions="clip")}
REFUSED = [
    ("vae", {"num_images": 3, "condition": {"label": [0, 1], "wide": 1, "level": 2}}, "num_images (3) must be 2"),
    ("vae", {"num_images": 3, "latents": [[0.0], [0.0]]}, "num_images (3) must be 2, the number of latents"),
    ("vae", {"num_images": 0}, "num_images (0) must be an integer and at least 1"),
    ("vae", {"condition": {"label": "hat", "wide": 1, "level": 2}}, "condition label (['hat']) must be from boot, bag"),
    ("vae", {"condition": {"label": "bag"}}, "condition (label) must name label, wide, level"),
    ("vae", {"prompt": "a red bar"}, "condition (prompt) must name label, wide, level"),
    ("vae", {"num_inference_steps": 0}, "num_inference_steps (0) must be an integer and at least 1"),
    ("vae", {"output_type": "jpeg"}, "output_type (jpeg) must be one of pil, np, pt, latent"),
    ("flow_map", {"guidance_scale": 4.5}, "guidance_scale (4.5) must be 3.5"),
]


def _write(case: Case, write_params: Any) -> None:
    """Write the untrained run to the current folder."""
    settings, sizes, changes = None, {}, dict(case.changes)
    if case.captions == "clip":
        from support.text_models import write_clip

        info, tokenizer = read_info(write_clip(Path("clip"))), read_pretrained_tokenizer(Path("clip"), LENGTH)
        settings = {"tokenizer": tokenizer.json, "length": LENGTH, "encoder": asdict(info)}
        sizes = {"state_width": info.width, "length": LENGTH, "width": 8}
    elif case.captions:
        tokenizer = train_tokenizer(CAPTIONS, 280, LENGTH)
        settings = {"tokenizer": tokenizer.json, "length": LENGTH}
        sizes = {"num_ids": tokenizer.num_ids, "length": LENGTH, "width": 8, "depth": 1, "heads": 2}
    if sizes:
        changes["denoiser"] = {"text": sizes}
    condition = ALL if case.conditional else ()
    write_run(case.denoiser, case.autoencoder, case.process, condition, changes=changes, text=settings)
    params = {f"sample.{name}": value for name, value in case.sample.items()} | {"seed": SEED, **case.params}
    write_params(Path(), params | ({"text.path": "clip"} if case.captions == "clip" else {}))


def _arguments(sampler: ImageSampler, case: Case) -> dict[str, Any]:
    """Return what a user passes to the pipeline for the first samples of the run."""
    labels = sampler.labels if case.conditional else None
    condition = None if labels is None else {name: labels.column(name).tolist() for name in labels.names}
    prompt = [PROMPTS[index % len(PROMPTS)] for index in range(COUNT)] if case.captions else None
    return {"num_images": COUNT, "condition": condition, "prompt": prompt}


def _draw(cases: Mapping[str, Case], root: Path, write_params: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Export the cases to ``root``/exported, where diffusers draws its images.

    Returns the images of the runs themselves, and the messages about what is refused.
    """
    images, arguments = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        for name, case in cases.items():
            (root / name).mkdir()
            patch.chdir(root / name)
            torch.manual_seed(0)
            _write(case, write_params)
            classes = case.moment_classes
            maps = None if classes is None else write_moments(classes, **case.sample)
            export_diffusers(root / "exported" / name)
            sampler = load_image_sampler(SampleParams(count=COUNT, **case.sample), SEED, torch.device("cpu"))
            sampler = replace(sampler, moments=maps)
            sampler.labels.column("wide").round_()
            images[name] = sampler.images(torch.arange(COUNT)).numpy()
            arguments[str(root / "exported" / name)] = _arguments(sampler, case)
    environment = {**os.environ, "HF_HOME": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
    refused = [(str(root / "exported" / name), given) for name, given, _ in REFUSED if name in cases]
    run = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, json.dumps(refused)],
        input=json.dumps(arguments),
        env=environment,
        cwd=root,
        text=True,
        check=False,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    return images, json.loads(run.stdout)


def _assert_same_images(folder: Path, ours: np.ndarray) -> None:
    theirs = np.load(folder / "images.npy")
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).max() <= 1  # level of 256
    assert ours.std() > 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory, write_params) -> tuple[Path, dict[str, np.ndarray], dict[str, str]]:
    """The folder of the exported cases, the images of their runs, and the messages about what is refused."""
    root = tmp_path_factory.mktemp("export_diffusers")
    return root / "exported", *_draw(CASES, root, write_params)


@pytest.mark.parametrize("name", CASES)
def test_diffusers_draws_the_same_images_without_latentline(name, exported):
    folder, images, _ = exported
    _assert_same_images(folder / name, images[name])


def test_moments_hold_for_the_steps_of_the_settings_alone(exported, monkeypatch):
    monkeypatch.chdir(exported[0].parent / "vae")
    sampler = load_image_sampler(SampleParams(count=COUNT, steps=1), SEED, torch.device("cpu"))
    sampler.labels.column("wide").round_()
    expected = sampler.latents(torch.arange(COUNT)).numpy()
    np.testing.assert_allclose(np.load(exported[0] / "vae" / "one_step.npy"), expected, atol=1e-4)


@pytest.mark.slow  # it imports transformers: `pytest -m slow tests/tools/test_export_diffusers.py`
def test_a_pretrained_text_encoder_goes_along(tmp_path, write_params):
    images, _ = _draw(CLIP, tmp_path, write_params)
    _assert_same_images(tmp_path / "exported" / "clip", images["clip"])
    for copied in (tmp_path / "exported" / "clip" / "text_encoder").iterdir():
        assert copied.read_bytes() == (tmp_path / "clip" / "clip" / copied.name).read_bytes()


@pytest.mark.parametrize(("name", "given", "message"), REFUSED)
def test_the_pipeline_refuses_impossible_arguments_in_one_line(name, given, message, exported):
    refused = exported[2][json.dumps(given)]
    assert refused.startswith(message)
    assert "\n" not in refused


def test_without_arguments_it_draws_the_classes_in_turn_from_the_seed_of_the_run(exported):
    latents = np.load(exported[0] / "vae" / "latents.npy")
    assert latents.shape == (2, 2, 2, 2)
    assert np.abs(latents[0] - latents[1]).max() > 0.1


def test_an_autoencoder_that_diffusers_has_is_its_own_and_loads_from_both_folders(exported):
    folder = exported[0] / "autoencoder_kl"
    assert json.loads((folder / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (folder / name).read_bytes() == (folder / "vae" / name).read_bytes()
    assert not list((folder / "vae").glob("*.py"))


def test_a_sampler_that_cannot_serve_the_denoiser_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, write_params
):
    monkeypatch.chdir(tmp_path)
    _write(Case("mlp", "ae of vectors", V, {"sampler": "flow_sde"}), write_params)
    with pytest.raises(UserError, match=r"sampler \(flow_sde\) must be one of"):
        export_diffusers(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a module and of all classes and functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType, *operations: str) -> set[str]:
    parts = (one for part in _codes(code) for one in dis.get_instructions(part))
    return {one.argval for one in parts if one.opname in operations}


@pytest.mark.parametrize("kind", ["pipeline", "autoencoder", "denoiser", "moments", "tokenizer"])
def test_a_single_file_has_every_name_that_it_reads_and_imports_nothing_of_ours(kind):
    text = single_file(f"latentline.tools.diffusers_{kind}", f"Latentline{kind.capitalize()}")
    assert "import latentline" not in text
    assert "from latentline" not in text
    code = compile(text, kind, "exec")
    missing = _names(code, "LOAD_GLOBAL", "LOAD_NAME") - _names(code, "STORE_NAME") - set(dir(builtins))
    assert missing <= {"__file__", "__annotations__"}
