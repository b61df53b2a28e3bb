"""A checkpoint builds the same network again; one that does not fit is refused by its file name."""

import hashlib

import pytest
import torch
from torch import nn

from latentline.core.arrays import save_arrays
from latentline.core.errors import UserError
from latentline.runtime.checkpoint import load_checkpoint, save_checkpoint
from latentline.runtime.compute import to_device

CONSTRUCTOR = {"in_features": 3, "out_features": 2}


@pytest.fixture
def network() -> nn.Linear:
    return nn.Linear(**CONSTRUCTOR)


def _save(path, network, **changes) -> None:
    arguments = {"kind": "denoiser", "name": "linear", "constructor": CONSTRUCTOR, "trained_on": {"latents": "ab" * 32}}
    save_checkpoint(path, **{**arguments, "tensors": network.state_dict(), **changes})


def test_a_checkpoint_builds_the_same_network_again(tmp_path, network):
    path = tmp_path / "x.safetensors"
    _save(path, network, settings={"condition": ["label"]})
    checkpoint = load_checkpoint(path, kind="denoiser", made_by="train_denoiser")
    rebuilt = nn.Linear(**checkpoint.constructor)
    checkpoint.load_into(rebuilt)
    x = torch.randn(4, 3)
    assert torch.equal(rebuilt(x), network(x))
    assert (checkpoint.name, checkpoint.trained_on) == ("linear", {"latents": "ab" * 32})
    assert checkpoint.settings == {"condition": ["label"]}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_network_gives_the_same_bytes_in_any_memory_layout(tmp_path):
    network = nn.Conv2d(3, 8, 3)
    _save(tmp_path / "one", network)
    _save(tmp_path / "other", to_device(network, torch.device("cpu")))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_checkpoint_of_another_kind_is_refused(tmp_path, network):
    _save(tmp_path / "x", network, kind="autoencoder")
    with pytest.raises(UserError, match=r"\(autoencoder\) must be of kind denoiser; run `dvc repro train_denoiser`"):
        load_checkpoint(tmp_path / "x", kind="denoiser", made_by="train_denoiser")


def test_a_missing_checkpoint_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="dvc repro train_denoiser"):
        load_checkpoint(tmp_path / "x", kind="denoiser", made_by="train_denoiser")


@pytest.mark.parametrize(
    "tensors", [{}, {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, {"weight": torch.zeros(2, 3)}]
)
def test_weights_that_do_not_fit_are_refused_by_file(tmp_path, network, tensors):
    _save(tmp_path / "x", network, tensors=tensors)
    with pytest.raises(UserError, match=str(tmp_path / "x")):
        load_checkpoint(tmp_path / "x", kind="denoiser", made_by="train_denoiser").load_into(network)


@pytest.mark.parametrize("missing", ["name", "constructor", "trained_on", "settings"])
def test_a_file_of_the_right_kind_that_is_no_checkpoint_is_refused_by_file(tmp_path, missing):
    meta = {"kind": "denoiser", "name": "unet", "constructor": {}, "trained_on": {}, "settings": {}}
    del meta[missing]
    save_arrays(tmp_path / "x", {"w": torch.zeros(2)}, meta)
    with pytest.raises(UserError, match=rf"{tmp_path}/x.* no {missing}; .*dvc repro train_denoiser"):
        load_checkpoint(tmp_path / "x", kind="denoiser", made_by="train_denoiser")
