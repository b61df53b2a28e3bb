"""``make export-diffusers``: diffusers draws the images of the run, where latentline cannot be imported."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from latentline.core.errors import UserError
from latentline.latents.pretrained_text import read_info, read_pretrained_tokenizer
from latentline.latents.tokenizer import train_tokenizer
from latentline.tools.export_diffusers import export_diffusers
from stages.sample.draw import ImageSampler, load_image_sampler
from stages.sample.params import SampleParams
from support.captioned import CAPTIONS
from support.text_models import write_clip
from support.untrained_run import write_run

SEED, COUNT, LENGTH = 3, 5, 6
PROMPTS = ["A red square", "a blue bar", "a red bar"]
VELOCITY, V = {"path": "flow", "prediction": "velocity"}, {"path": "vp_cosine", "prediction": "v"}
AVERAGES = {"max_guidance_scale": 4.0, "guidance_start": 0.15, "guidance_end": 0.6}
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


CASES = {
    "vae": Case("unet", "vae", VELOCITY, changes={"autoencoder": {"network": "conv"}}),
    "autoencoder_kl": Case(
        "dit",
        "vae of stable diffusion",
        V,
        {"sampler": "heun", "guidance_rescale": 0.7},
        changes={"autoencoder": AUTOENCODER_KL},
    ),
    "diffae": Case("mlp", "diffae", V, {"sampler": "dpmpp_2m", "time_grid": "karras"}, conditional=False),
    "own_noise": Case("dit", "identity", V, {"sampler": "ddpm", "steps": 9}),
    "mean_flow": Case(
        "mlp",
        "ae of vectors",
        VELOCITY | {"mean_flow": AVERAGES},
        {"sampler": "mean_flow", "steps": 2},
        changes={"denoiser": {"average_velocity": True}},
        params={"denoiser.objective": "mean_flow"},
    ),
    "captions": Case("unet", "ae", VELOCITY, {"prompts": PROMPTS, "negative_prompt": "a green bar"}, captions="own"),
    "clip": Case("dit", "ae", VELOCITY, {"prompts": PROMPTS}, conditional=False, captions="clip"),
}


def _write(case: Case, write_params: Any) -> None:
    """Write the untrained run to the current folder."""
    settings, sizes, changes = None, {}, dict(case.changes)
    if case.captions == "clip":
        info, tokenizer = read_info(write_clip(Path("clip"))), read_pretrained_tokenizer(Path("clip"), LENGTH)
        settings = {"tokenizer": tokenizer.json, "length": LENGTH, "encoder": asdict(info)}
        sizes = {"state_width": info.width, "length": LENGTH, "width": 8}
    elif case.captions:
        tokenizer = train_tokenizer(CAPTIONS, 280, LENGTH)
        settings = {"tokenizer": tokenizer.json, "length": LENGTH}
        sizes = {"num_ids": tokenizer.num_ids, "length": LENGTH, "width": 8, "depth": 1, "heads": 2}
    if sizes:
        changes["denoiser"] = {"text": sizes}
    write_run(
        case.denoiser, case.autoencoder, case.process, conditional=case.conditional, changes=changes, text=settings
    )
    params = {f"sample.{name}": value for name, value in case.sample.items()} | {"seed": SEED, **case.params}
    write_params(Path(), params | ({"text.path": "clip"} if case.captions == "clip" else {}))


def _arguments(sampler: ImageSampler, case: Case) -> dict[str, Any]:
    """Return what a user passes to the pipeline for the first samples of the run."""
    labels = sampler.labels if case.conditional else None
    condition = None if labels is None else {name: labels.column(name).tolist() for name in labels.names}
    prompt = [PROMPTS[index % len(PROMPTS)] for index in range(COUNT)] if case.captions else None
    return {"num_images": COUNT, "condition": condition, "prompt": prompt}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, write_params) -> dict[str, tuple[Path, np.ndarray]]:
    """The folder of each case with the images of the run; diffusers has drawn its own into the folder."""
    root = tmp_path_factory.mktemp("export_diffusers")
    found, arguments = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        for name, case in CASES.items():
            (root / name).mkdir()
            patch.chdir(root / name)
            torch.manual_seed(0)
            _write(case, write_params)
            folder = root / "exported" / name
            export_diffusers(folder)
            sampler = load_image_sampler(SampleParams(count=COUNT, **case.sample), SEED, torch.device("cpu"))
            sampler.labels.column("wide").round_()
            found[name] = folder, sampler.images(torch.arange(COUNT)).numpy()
            arguments[str(folder)] = _arguments(sampler, case)
    environment = {**os.environ, "HF_HOME": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", PROGRAM]
    subprocess.run(command, input=json.dumps(arguments), env=environment, text=True, check=True, cwd=root)
    return found


@pytest.mark.parametrize("name", CASES)
def test_diffusers_draws_the_same_images_without_latentline(name, drawn):
    folder, ours = drawn[name]
    theirs = np.load(folder / "images.npy")
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).max() <= 1  # level of 256
    assert ours.std() > 1
