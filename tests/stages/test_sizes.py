"""Networks and latents that exceed this machine or the images are refused before any work, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.core.paths import AUTOENCODER, PREPARED
from latentline.latents.cache import LatentSplit, read_stats, write_cache
from latentline.runtime import memory
from latentline.runtime.checkpoint import save_checkpoint
from stages.download.images import ArrayImages
from stages.download.prepare import prepare
from stages.download.source import Card, Source, SourceSplit
from support.source_files import PREPARE_OPTIONS
from support.stage_runs import run_stage

pytestmark = pytest.mark.usefixtures("machine")

LEVELS = {"autoencoder.encoder_blocks": [1] * 5, "autoencoder.decoder_blocks": [1] * 5}
LEVELS |= {"autoencoder.encoder_channels": [8] * 5, "autoencoder.decoder_channels": [8] * 5}
CPU = {"compute.device": "cpu", "compute.threads": 1, "evaluate.neighbours": 1}
DIT = {"denoiser.name": "dit", "denoiser.heads": 8}


@pytest.fixture
def inputs(workplace, monkeypatch):
    """Write twenty images of 8x8, and latents of 2x4x4, of two classes; on a machine of 4 GiB."""
    monkeypatch.setattr(memory, "memory_bytes", lambda device: 4 << 30)
    images = np.random.default_rng(0).integers(0, 255, (20, 1, 8, 8)).astype(np.uint8)
    prepare(
        Source(Card("x", ("a", "b"), "", "", ""), {"train": SourceSplit(ArrayImages(images), np.arange(20) % 2)}),
        PREPARED,
        PREPARE_OPTIONS,
    )
    schema = build_schema(("a", "b"), ())
    labels = LabelTable(schema, (torch.arange(20.0) % 2)[:, None])
    split = [LatentSplit(torch.randn(20, 2, 4, 4), labels)]
    write_cache(Path(), dict.fromkeys(("train", "val", "test"), split), schema=schema, autoencoder="ab" * 32)
    return sorted(path for path in workplace.rglob("*"))


@pytest.mark.parametrize(
    ("stage", "params", "message"),
    [
        (
            "train_autoencoder",
            {"autoencoder.encoder_channels": [32, 65536]},
            r"autoencoder: .*\[32, 65536\].* make a network that needs",
        ),
        (
            "train_autoencoder",
            LEVELS,
            r"autoencoder\.encoder_channels \(\[8, 8, 8, 8, 8\]\) must shrink images of 8x8 less than 16 times, "
            r"not 32 ",
        ),
        (
            "train_denoiser",
            {"denoiser.channels": [64, 32768]},
            r"denoiser: \{'channels': \[64, 32768\].* make a network that needs",
        ),
        (
            "train_denoiser",
            {**DIT, "denoiser.width": 65536, "denoiser.depth": 100},
            r"denoiser: .*'width': 65536.* make a network that needs",
        ),
        (
            "train_denoiser",
            {**DIT, "denoiser.patch_size": 5},
            r"denoiser\.patch_size \(5\) must be at most 4 for latents of 4x4; lower it",
        ),
        (
            "train_feature_extractor",
            {"feature_extractor.features": 10**9},
            r"feature_extractor: .*'features': 1000000000.* make a network that needs",
        ),
    ],
)
def test_a_network_of_impossible_size_is_refused(inputs, workplace, write_params, stage, params, message):
    write_params(workplace, {**CPU, **params})
    with pytest.raises(UserError, match=message) as caught:
        run_stage(stage)
    assert "\n" not in str(caught.value)
    assert sorted(path for path in workplace.rglob("*") if path.name != "params.yaml") == inputs


def test_an_export_that_does_not_fit_into_memory_is_refused_and_without_one_no_latents_are_too_many(
    inputs, workplace, write_params, monkeypatch
):
    save_checkpoint(
        AUTOENCODER,
        kind="autoencoder",
        name="identity",
        constructor={"image_shape": [1, 8, 8]},
        trained_on={},
        tensors={},
    )
    before = sorted(workplace.rglob("*"))
    write_params(workplace, {**CPU, "autoencoder.name": "identity", "latents.export": "npz"})
    monkeypatch.setattr(memory, "memory_bytes", lambda device: 100)
    message = r"latents\.export\b.*npz.* 13 latents of shape \(1, 8, 8\).*; set it to null, or lower data\.limit"
    with pytest.raises(UserError, match=message):
        run_stage("encode_and_cache_latents")
    assert sorted(path for path in workplace.rglob("*") if path.name != "params.yaml") == before
    write_params(workplace, {**CPU, "autoencoder.name": "identity", "latents.export": None})
    run_stage("encode_and_cache_latents")
    assert read_stats().shape == (1, 8, 8)
