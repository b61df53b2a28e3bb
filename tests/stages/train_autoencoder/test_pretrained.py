"""Weights of diffusers: where the stage starts from them, and where the export gives them back."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from latentline.autoencoders.load import load_autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.data.store import read_card
from latentline.tools import export_diffusers
from support.autoencoder_stages import PRETRAINED


@torch.no_grad()
def test_a_pretrained_autoencoder_is_used_as_it_is_and_remembered_by_its_digest(run, pretrained):
    checkpoint, metrics, _ = run(**PRETRAINED, init_from=str(pretrained), epochs=0)
    theirs = AutoencoderKL.from_pretrained(pretrained, low_cpu_mem_usage=False)
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(
        load_autoencoder(torch.device("cpu")).network.encode(x), theirs.encode(x).latent_dist.mean, atol=1e-5, rtol=1e-4
    )
    weights = sha256_file(pretrained / "diffusion_pytorch_model.safetensors")
    assert checkpoint.trained_on == {**read_card(Path("data/prepared")).sha256, "init_from": weights}
    assert str(pretrained).encode() not in checkpoint.path.read_bytes()
    assert metrics["psnr"] == metrics["untrained"]["psnr"]


def test_a_frozen_encoder_keeps_its_weights_while_the_decoder_learns(run, pretrained):
    before = run(**PRETRAINED, init_from=str(pretrained), epochs=0)[0].tensors
    after = run(**PRETRAINED, init_from=str(pretrained), freeze_encoder=True)[0].tensors
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_another_architecture_than_the_pretrained_one_stops_the_stage(run, pretrained):
    with pytest.raises(UserError, match=r"autoencoder\.groups"):
        run(**PRETRAINED, init_from=str(pretrained), groups=4)


def test_an_exported_autoencoder_gives_diffusers_the_same_images_and_the_same_scale(run, tmp_path):
    _, _, stats = run(**PRETRAINED)
    export_diffusers.export_diffusers(tmp_path / "exported")
    theirs, ours = (
        AutoencoderKL.from_pretrained(tmp_path / "exported", low_cpu_mem_usage=False),
        load_autoencoder(torch.device("cpu")).network,
    )
    assert isinstance(ours, VAE)
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x).latent_dist.mean, ours.encode(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            theirs.decode(ours.encode(x)).sample, ours.decode(ours.encode(x)), atol=1e-5, rtol=1e-4
        )
    assert theirs.config.latents_mean == pytest.approx(stats.normalizer.mean.flatten().tolist())
    assert theirs.config.latents_std == pytest.approx(stats.normalizer.std.flatten().tolist())


@pytest.mark.parametrize(
    ("params", "named"), [({"name": "identity"}, "autoencoder.name"), ({"network": "conv"}, "autoencoder.network")]
)
def test_what_diffusers_does_not_have_is_not_exported(run, tmp_path, params, named):
    run(**params)
    with pytest.raises(UserError, match=named):
        export_diffusers.export_diffusers(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
