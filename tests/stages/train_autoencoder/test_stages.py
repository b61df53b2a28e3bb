"""Stages ``train_autoencoder`` and ``encode_and_cache_latents``, run as they are on a few images."""

import json
import logging
import shutil
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from ruamel.yaml import YAML

from latentline.autoencoders.load import load_autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.data.store import read_card, read_split, to_unit_range
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from latentline.tools import export_diffusers
from latentline.tools.params_file import read_recipe
from latentline.training import config as training
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_autoencoder import train as autoencoder_training
from stages.train_autoencoder.report import warn_of_silence

TINY = {
    "epochs": 1,
    "latent_channels": 2,
    "encoder_channels": [8, 16],
    "encoder_blocks": [1, 1],
    "decoder_channels": [8, 16],
    "decoder_blocks": [2, 2],
    "figures": {"height": 4, "width": 5, "scale": 1, "preview_every_epochs": 0},
}
TINY_DIFFAE = {
    "embedding_dim": 6,
    "encoder_channels": [8, 16],
    "channels": [8],
    "attention_levels": [],
    "condition_width": 8,
    "sample_timesteps": 20,
}
FIGURES = {
    "loss.csv",
    "loss.png",
    "reconstructions.png",
    "best_to_worst.png",
    "worst_reconstructions.png",
    "latents.png",
    "interpolations.png",
    "perturbations.png",
}


def _write_params(folder: Path, root: Path, autoencoder: dict, latents: dict) -> None:
    content = read_recipe("digits", root)
    content["data"] |= {"limit": 40}
    content["autoencoder"] |= {
        **TINY,
        **autoencoder,
        "diffae": {**content["autoencoder"]["diffae"], **TINY_DIFFAE, **autoencoder.get("diffae", {})},
    }
    content["latents"] |= latents
    content["denoiser"]["name"] = (
        "mlp" if autoencoder.get("latent_dim") or autoencoder.get("name") == "diffae" else "unet"
    )
    content["compute"] |= {"threads": 1, "workers": 0, "device": "cpu"}
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(content, file)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, root) -> Path:
    """A folder in which ``download`` has run."""
    folder = tmp_path_factory.mktemp("prepared")
    _write_params(folder, root, {}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        download.main()
    return folder


@pytest.fixture
def run(prepared, workplace, root, monkeypatch):
    """Run both stages with changed knobs; gives what they left."""
    for stage in (
        train_autoencoder,
        encode_and_cache_latents,
    ):  # the real one changes this process for the tests that follow
        monkeypatch.setattr(stage, "set_up", lambda device, threads: torch.device(device))
    shutil.copytree(prepared / "data", workplace / "data")

    def both(latents: dict | None = None, **autoencoder: object) -> tuple[Checkpoint, dict, LatentStats]:
        _write_params(workplace, root, autoencoder, latents or {})
        train_autoencoder.main()
        encode_and_cache_latents.main()
        checkpoint = load_checkpoint(
            Path("checkpoints/autoencoder/autoencoder.safetensors"), kind="autoencoder", made_by=""
        )
        return (
            checkpoint,
            json.loads(Path("metrics/autoencoder.json").read_text()),
            read_stats(),
        )

    return both


def _figures() -> set[str]:
    return {path.name for path in Path("fig/autoencoder").iterdir()}


def test_the_identity_trains_nothing_loses_nothing_and_leaves_all_that_others_leave(run):
    checkpoint, metrics, stats = run(name="identity")
    assert checkpoint.tensors == {}
    assert (metrics["mse"], metrics["psnr"], metrics["test_loss"], metrics["parameters"]) == (0, 100, 0, 0)
    assert metrics["ssim"] == pytest.approx(1)
    assert [metrics[name] for name in ("kl", "bits", "active_units")] == [None] * 3
    assert stats.shape == (1, 8, 8)
    assert _figures() == FIGURES - {"loss.png"}
    assert pd.read_csv("fig/autoencoder/loss.csv")["val_loss"].tolist() == [0]
    raw = read_latents("test").latents.load()
    restored = stats.normalizer.restore(stats.normalizer.standardise(raw))
    decoded = load_autoencoder(torch.device("cpu")).decode(restored)
    assert torch.equal(decoded, read_split(Path("data/prepared"), "test").images.load())


@pytest.mark.parametrize("network", ["conv", "stable_diffusion"])
def test_a_plain_autoencoder_with_a_latent_vector(run, network):
    checkpoint, metrics, stats = run(name="ae", latent_dim=5, network=network)
    assert stats.shape == (5,)
    assert read_latents("train").latents.shape == (40, 5)
    assert metrics["latent_size"] == 5
    assert metrics["kl"] is None
    assert metrics["parameters"] == sum(tensor.numel() for tensor in checkpoint.tensors.values())
    assert _figures() == FIGURES
    assert {path.name for path in Path("fig/latents").iterdir()} == {"channels.png", "histograms.png"}


def test_a_vaes_report_counts_its_active_units_and_bits(run):
    _, metrics, stats = run(kl_weight=0.0, latent_dim=None)
    assert stats.shape == (2, 2, 2)
    assert metrics["latent_size"] == 8
    assert metrics["active_units"] == sum(metrics["active_units_by_channel"]) <= 8
    assert len(metrics["active_units_by_channel"]) == 2
    assert metrics["bits"] == pytest.approx(metrics["kl"] / 0.693147, rel=1e-4)
    assert metrics["psnr"] > metrics["untrained"]["psnr"]


def test_grids_have_the_size_that_their_knobs_say(run):
    run(figures={**TINY["figures"], "scale": 3})
    with Image.open("fig/autoencoder/reconstructions.png") as image:
        assert image.size == ((5 * 10 + 2) * 3, (4 * 10 + 2) * 3)  # images of 8 pixels, gaps of 2
    with Image.open("fig/autoencoder/interpolations.png") as image:
        assert image.size == ((5 * 10 + 2) * 3, (4 * 10 + 2) * 3)


def test_a_cached_sample_of_the_posterior_is_seeded_and_not_its_mean(run):
    cached = []
    for posterior in ("mean", "sample", "sample"):
        run({"posterior": posterior, "dtype": "float32"})
        cached.append(read_latents("train").latents.load())
    assert torch.equal(cached[1], cached[2])
    assert not torch.allclose(cached[0], cached[1], atol=1e-2)


def test_a_fixed_scaling_takes_the_place_of_the_measured_one(run):
    _, _, stats = run({"scaling": 0.5})
    assert torch.equal(stats.normalizer.std, torch.full((2, 1, 1), 2.0))
    assert torch.equal(stats.normalizer.mean, torch.zeros(2, 1, 1))


def test_averaged_weights_are_the_ones_kept(run):
    last = run(ema_decay=None, epochs=3)[0].tensors
    same = run(ema_decay=0.0, epochs=3)[0].tensors
    averaged = run(ema_decay=0.9, epochs=3)[0].tensors
    assert all(torch.equal(last[name], same[name]) for name in last)
    assert any(not torch.equal(last[name], averaged[name]) for name in last)


def test_batches_in_parts_give_the_same_autoencoder_to_float_tolerance(run, root):
    optimizer = read_recipe("digits", root)["autoencoder"]["optimizer"] | {"batch_size": 10, "warmup_steps": 0}
    (whole, expected, _), (cut, metrics, _) = (
        run(optimizer=optimizer | {"accumulate": accumulate}) for accumulate in (1, 3)
    )
    for name in ("mse", "kl", "test_loss"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-3)
    assert any(not torch.equal(cut.tensors[name], tensor) for name, tensor in whole.tensors.items())  # it was cut


@pytest.fixture
def pretrained(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    sizes = {
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 2,
    }
    types = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    folder = tmp_path_factory.mktemp("pretrained")
    AutoencoderKL(**sizes, **types).save_pretrained(folder)
    return folder


PRETRAINED = {"name": "vae", "network": "stable_diffusion", "middle_attention": True}


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


def test_an_export_lies_beside_the_cache_and_changes_nothing_in_it(run):
    _, _, alone = run(name="identity")
    cache = {path.name: sha256_file(path) for path in Path("encoded_img").iterdir()}
    _, _, stats = run({"export": "npz"}, name="identity")
    assert {path.name: sha256_file(path) for path in Path("encoded_img").iterdir() if path.is_file()} == cache
    assert stats.autoencoder == alone.autoencoder
    exported, latents = np.load("encoded_img/export/test.npz"), read_latents("test")
    assert torch.equal(torch.from_numpy(exported["z0"]), stats.normalizer.standardise(latents.latents.load()))
    assert torch.equal(torch.from_numpy(exported["labels"]), latents.labels)


@pytest.mark.parametrize(
    ("params", "named"), [({"name": "identity"}, "autoencoder.name"), ({"network": "conv"}, "autoencoder.network")]
)
def test_what_diffusers_does_not_have_is_not_exported(run, tmp_path, params, named):
    run(**params)
    with pytest.raises(UserError, match=named):
        export_diffusers.export_diffusers(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("active", "said"),
    [
        ([4, 0, 2], "1 of 3 latent channels say nothing about the image (1)"),
        ([0, 0], "the posterior has collapsed"),
        ([1, 4], ""),
        (None, ""),
    ],
)
def test_silent_channels_and_a_collapsed_posterior_are_reported_in_one_line(caplog, active, said):
    with caplog.at_level(logging.WARNING):
        warn_of_silence({"active_units_by_channel": active})
    assert len(caplog.messages) == bool(said)
    assert said in "".join(caplog.messages)


def test_images_that_are_read_from_disk_at_every_step_give_the_same_weights_as_images_in_memory(run, monkeypatch):
    in_memory, _, _ = run(name="vae")
    monkeypatch.setattr(training, "_MOST_BYTES", 0)
    from_disk, _, _ = run(name="vae")
    assert from_disk.sha256 == in_memory.sha256


def test_a_diffusion_autoencoder_reports_what_its_latent_holds_and_what_its_noise_does(run):
    checkpoint, metrics, stats = run(name="diffae", figures={**TINY["figures"], "preview_every_epochs": 1})
    assert stats.shape == (6,)
    assert metrics["mse"] == metrics["with_random_noise"]["20"]["mse"]  # what stands at the top is of the latent alone
    for steps in ("20", "100"):
        assert metrics["with_inferred_noise"][steps]["ssim"] > metrics["with_random_noise"][steps]["ssim"]
    assert _figures() == FIGURES | {"noise.png", "stochastic.png", "preview_0001.png"}
    with Image.open("fig/autoencoder/noise.png") as image:
        assert image.size == (5 * 10 + 2, 4 * 10 + 2)  # originals, random noise, inferred noise, the noise itself
    assert checkpoint.constructor["inner"] == {"name": "identity"}


@pytest.mark.skipif(not util.find_spec("stlpips_pytorch"), reason="the extra `perceptual` is not installed")
def test_the_perceptual_distance_is_reported_on_demand_and_changes_no_weight(run):
    plain, metrics, _ = run(name="diffae")
    asked, scored, _ = run(name="diffae", report_lpips=True)
    assert asked.sha256 == plain.sha256
    assert "lpips" not in metrics
    assert scored["with_inferred_noise"]["100"]["lpips"] < scored["with_random_noise"]["100"]["lpips"]
    assert scored["lpips"] == pytest.approx(scored["with_random_noise"]["20"]["lpips"])
    assert scored["lpips_of_other_images"] > 0


def test_each_image_is_decoded_from_the_noise_of_its_number_or_from_the_one_given(run):
    run(name="diffae")
    autoencoder, test = load_autoencoder(torch.device("cpu")), read_split(Path("data/prepared"), "test")
    images = test.images[:4]
    own_latents = autoencoder.network.encode(to_unit_range(images))  # (4, 6)
    raw = own_latents[:1].expand(4, 6)
    decoded = autoencoder.decode(raw)
    assert len(decoded.unique(dim=0)) == 4
    assert torch.equal(autoencoder.decode(raw[2:], first=2), decoded[2:])
    raw = own_latents
    own = autoencoder.decode(raw, autoencoder.invert(images, raw))
    assert (own.float() - images.float()).abs().mean() < (
        autoencoder.decode(raw).float() - images.float()
    ).abs().mean() / 4


def test_a_pretrained_encoder_is_the_same_however_long_the_decoder_trains(run):
    params = {"name": "diffae", "diffae": {"encoder_training": "pretrained", "pretrain_epochs": 1}}
    once, twice = run(**params)[0].tensors, run(**params, epochs=2)[0].tensors
    changed = {name.split(".")[0] for name in once if not torch.equal(once[name], twice[name])}
    assert changed == {"decoder"}
    assert len(pd.read_csv("fig/autoencoder/loss_encoder.csv")) == 1
    assert len(pd.read_csv("fig/autoencoder/loss.csv")) == 2


def test_a_stage_killed_after_its_trainings_continues_each_of_them(run, monkeypatch, caplog):
    params = {"name": "diffae", "epochs": 2, "diffae": {"inner": "vae", "inner_epochs": 3, "patch_size": 1}}
    whole = run(**params)[0].sha256
    saving_of = autoencoder_training.saving_of
    with monkeypatch.context() as patch:
        patch.setattr(
            autoencoder_training,
            "saving_of",
            lambda *arguments, **more: replace(saving_of(*arguments, **more), every_seconds=0.0),
        )
        patch.setattr(train_autoencoder, "save_checkpoint", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            run(**params)
    with caplog.at_level(logging.INFO):
        assert run(**params)[0].sha256 == whole
    assert [message for message in caplog.messages if "resumed" in message] == [
        f"resumed train_autoencoder at step {step}" for step in (3, 2)
    ]
    assert {path.name for path in Path(".state").rglob("*.safetensors")} == {"ended.safetensors"}
