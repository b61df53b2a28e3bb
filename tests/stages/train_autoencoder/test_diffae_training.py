"""A diffusion autoencoder: each of its trainings resumes, and its report draws the noise."""

import logging
from dataclasses import replace
from importlib import util
from pathlib import Path

import pandas as pd
import pytest
import torch

from latentline.autoencoders.load import load_autoencoder
from latentline.data.store import read_split, to_unit_range
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_autoencoder import train
from support.autoencoder_stages import FIGURES, TINY, figure_names
from support.pictures import grid_size
from support.training_run import reference


def test_the_report_compares_random_noise_with_inferred_noise(run):
    checkpoint, metrics, stats = run(name="diffae", figures={**TINY["figures"], "preview_every_epochs": 1})
    assert stats.shape == (6,)
    assert metrics["mse"] == metrics["with_random_noise"]["20"]["mse"]  # the top level scores the latent alone
    for steps in ("20", "100"):
        assert metrics["with_inferred_noise"][steps]["ssim"] > metrics["with_random_noise"][steps]["ssim"]
    assert figure_names() == FIGURES | {"noise.png", "stochastic.png", "preview_0001.png"}
    size = grid_size(Path("fig/autoencoder/noise.png"))
    assert size == (5 * 10 + 2, 4 * 10 + 2)  # originals, random noise, inferred noise, the noise itself
    assert checkpoint.constructor["inner"] == {"name": "identity"}


@pytest.mark.skipif(not util.find_spec("stlpips_pytorch"), reason="the extra `perceptual` is not installed")
def test_the_perceptual_distance_is_reported_on_demand_and_changes_no_weight(run):
    plain, metrics, _ = run(name="diffae")
    reported, scored, _ = run(name="diffae", report_lpips=True)
    assert reported.sha256 == plain.sha256
    assert "lpips" not in metrics
    assert scored["with_inferred_noise"]["100"]["lpips"] < scored["with_random_noise"]["100"]["lpips"]
    assert scored["lpips"] == pytest.approx(scored["with_random_noise"]["20"]["lpips"])
    assert scored["lpips_of_other_images"] > 0


def test_each_image_is_decoded_from_the_noise_of_its_index_or_from_the_one_given(run):
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
    whole = reference(lambda: run(**params))[0].sha256
    saving_of = train.saving_of
    with monkeypatch.context() as patch:
        patch.setattr(
            train,
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
