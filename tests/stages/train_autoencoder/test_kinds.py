"""Each kind of autoencoder, trained and encoded as the stages do it, leaves the same kinds of files."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from latentline.autoencoders.load import load_autoencoder
from latentline.data.store import read_split
from latentline.latents.cache import read_latents
from support.autoencoder_stages import FIGURES, figure_names


def test_the_identity_trains_nothing_loses_nothing_and_leaves_the_files_that_others_leave(run):
    checkpoint, metrics, stats = run(name="identity")
    assert checkpoint.tensors == {}
    assert (metrics["mse"], metrics["psnr"], metrics["test_loss"], metrics["parameters"]) == (0, 100, 0, 0)
    assert metrics["ssim"] == pytest.approx(1)
    assert [metrics[name] for name in ("kl", "bits", "active_units")] == [None] * 3
    assert stats.shape == (1, 8, 8)
    assert figure_names() == FIGURES - {"loss.png"}
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
    assert figure_names() == FIGURES
    assert {path.name for path in Path("fig/latents").iterdir()} == {"channels.png", "histograms.png"}
