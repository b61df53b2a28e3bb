"""Metrics and figures of test images."""

import logging
from pathlib import Path

import pytest

from stages.train_autoencoder.report import warn_inactive_channels
from support.autoencoder_stages import TINY
from support.pictures import grid_size
from support.training_run import reference


def test_a_vaes_report_counts_its_active_units_and_bits(run):
    _, metrics, stats = run(kl_weight=0.0, latent_dim=None)
    assert stats.shape == (2, 2, 2)
    assert metrics["latent_size"] == 8
    assert metrics["active_units"] == sum(metrics["active_units_by_channel"]) <= 8
    assert len(metrics["active_units_by_channel"]) == 2
    assert metrics["bits"] == pytest.approx(metrics["kl"] / 0.693147, rel=1e-4)
    assert metrics["psnr"] > metrics["untrained"]["psnr"]


def test_grids_have_the_size_that_the_settings_give(run):
    run(figures={**TINY["figures"], "scale": 3})
    for name in ("reconstructions", "interpolations"):
        size = grid_size(Path(f"fig/autoencoder/{name}.png"))
        assert size == ((5 * 10 + 2) * 3, (4 * 10 + 2) * 3)  # images of 8 pixels, gaps of 2


@pytest.mark.parametrize(
    ("active", "logged"),
    [
        ([4, 0, 2], "1 of 3 latent channels carry nothing about the image (2)"),
        ([0, 0], "the posterior has collapsed"),
        ([1, 4], ""),
        (None, ""),
    ],
)
def test_inactive_channels_and_a_collapsed_posterior_are_reported_in_one_line(caplog, active, logged):
    with caplog.at_level(logging.WARNING):
        warn_inactive_channels({"active_units_by_channel": active})
    assert len(caplog.messages) == bool(logged)
    assert logged in "".join(caplog.messages)


def test_previews_are_drawn_every_so_many_epochs_and_change_no_weight(run):
    without, _, _ = reference(lambda: run(epochs=3))
    with_previews, _, _ = run(epochs=3, figures={**TINY["figures"], "preview_every_epochs": 2})
    assert with_previews.sha256 == without.sha256
    assert {path.name for path in Path("fig/autoencoder").glob("preview_*")} == {"preview_0002.png"}
    size = grid_size(Path("fig/autoencoder/preview_0002.png"))
    assert size == (5 * 10 + 2, 2 * 10 + 2)  # originals above reconstructions
