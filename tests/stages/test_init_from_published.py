"""``denoiser.init_from`` with files in the layout of published weights, and what of them is refused."""

import argparse
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.denoisers.load import load_denoiser
from latentline.latents.cache import read_stats
from latentline.runtime.checkpoint import load_checkpoint
from stages.train_denoiser import __main__ as train_denoiser
from support.published_dit import PublishedDiT
from support.stage_runs import DIGITS

pytestmark = pytest.mark.usefixtures("machine")

SIT = {
    "denoiser.gaussian_rank": 0,
    "denoiser.name": "dit",
    "denoiser.epochs": 0,
    "denoiser.width": 16,
    "denoiser.depth": 1,
    "denoiser.heads": 4,
    "denoiser.patch_size": 2,
    "denoiser.time_features": 256,
    "denoiser.time_scale": 1.0,
    "denoiser.learn_sigma": True,
}
DIT = {
    **SIT,
    "denoiser.time_scale": 1000.0,
    "denoiser.process.path": "vp_linear",
    "denoiser.process.prediction": "epsilon",
    "sample.sampler": "ddim",
}


@pytest.fixture
def theirs() -> PublishedDiT:
    return PublishedDiT(channels=2, side=4, width=16, depth=1, classes=10)


@pytest.fixture
def begin(digits_run: Path, workplace: Path, write_params):
    """Runs the stage on the latents of ``digits_run``."""
    for made in ("data", "encoded_img", "checkpoints/autoencoder"):
        shutil.copytree(digits_run / made, workplace / made)

    def run(**params: object) -> None:
        write_params(workplace, {**DIGITS, **params})
        train_denoiser.main()

    return run


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@torch.no_grad()
def test_the_denoiser_is_the_published_network_and_its_checkpoint_stores_their_digest(begin, theirs, suffix):
    path = Path(f"weights{suffix}")
    if suffix == ".pt":
        torch.save({"ema": theirs.state_dict(), "opt": {"state": {}}}, path)
    else:
        save_file(theirs.state_dict(), path)
    begin(**SIT, **{"denoiser.init_from": str(path), "denoiser.init_from_sha256": sha256_file(path)})
    denoiser = load_denoiser(torch.device("cpu"), read_stats())
    x, t = torch.randn(2, 2, 4, 4), torch.tensor([0.2, 0.9])
    condition = Condition(torch.stack([torch.eye(10)[7], torch.zeros(10)]))
    expected = -theirs(x, 1 - t, torch.tensor([7, 10]))[:, :2]
    torch.testing.assert_close(denoiser.network(x, t, condition), expected, atol=1e-5, rtol=1e-4)
    checkpoint = load_checkpoint(Path("checkpoints/denoiser/denoiser.safetensors"), kind="denoiser", made_by="")
    assert checkpoint.trained_on["init_from"] == sha256_file(path)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({**SIT, "denoiser.width": 32}, "denoiser.width (16, here 32)"),
        ({**SIT, "denoiser.time_features": None}, "denoiser.time_features (256, here None)"),
        ({**SIT, "denoiser.learn_sigma": False}, "denoiser.learn_sigma (True, here False)"),
        ({**DIT, "denoiser.time_scale": 1.0}, "denoiser.time_scale (1000.0, here 1.0)"),
        ({**SIT, "denoiser.rope": True}, "denoiser.rope (False, here True)"),
        ({**SIT, "denoiser.condition": "none"}, "width of the condition (10, here 0)"),
        ({**SIT, "denoiser.name": "unet"}, "denoiser.name (unet) must be dit, since denoiser.init_from (weights.pt)"),
        (
            {**DIT, "denoiser.process.path": "vp_cosine"},
            "denoiser.process.path (vp_cosine) must be vp_linear with prediction epsilon (weights of DiT) or flow",
        ),
        ({**SIT, "denoiser.init_from_sha256": "0" * 64}, "denoiser.init_from_sha256 (000"),
        (
            {**SIT, "denoiser.init_from": "missing.pt"},
            "denoiser.init_from: missing.pt must be a file of weights, but is missing",
        ),
        ({**SIT, "denoiser.init_from": "alien.pt"}, "must hold weights of DiT or SiT (x_embedder.proj.weight is miss"),
        ({**SIT, "denoiser.init_from": "code.pt"}, "code.pt must be a file of tensors by name, but could not be read"),
        ({**SIT, "denoiser.init_from": "list.pt"}, "list.pt must hold tensors by name"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.split(" ")[0],
)
def test_what_does_not_fit_is_refused_in_one_line_before_any_work(begin, theirs, params, expected):
    torch.save(theirs.state_dict(), "weights.pt")
    torch.save({"w": torch.zeros(1)}, "alien.pt")
    torch.save({"ema": theirs.state_dict(), "args": argparse.Namespace(a=1)}, "code.pt")
    torch.save([torch.zeros(1)], "list.pt")
    with pytest.raises(UserError) as caught:
        begin(**{"denoiser.init_from": "weights.pt", **params})
    (line,) = str(caught.value).splitlines()
    assert expected in line
    assert line.count(" must ") == 1
    assert not Path("fig").exists()
