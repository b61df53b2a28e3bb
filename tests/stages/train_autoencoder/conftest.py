"""Fixtures that run ``train_autoencoder`` and ``encode_and_cache_latents`` on a few images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from latentline.latents.cache import LatentStats, read_stats
from latentline.runtime import start
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.train_autoencoder import __main__ as train_autoencoder
from support.autoencoder_stages import write_autoencoder_params


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, root) -> Path:
    """A folder in which ``download`` has run."""
    folder = tmp_path_factory.mktemp("prepared")
    write_autoencoder_params(folder, root, {}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        download.main()
    return folder


@pytest.fixture
def run(prepared, workplace, root, monkeypatch) -> Callable[..., tuple[Checkpoint, dict, LatentStats]]:
    """Runs both stages with other settings; returns the checkpoint, the metrics and the statistics of the latents."""
    # set_up would change this process for later tests
    monkeypatch.setattr(start, "set_up", lambda device, *settings: torch.device(device))
    shutil.copytree(prepared / "data", workplace / "data")

    def both(latents: dict | None = None, **autoencoder: object) -> tuple[Checkpoint, dict, LatentStats]:
        write_autoencoder_params(workplace, root, autoencoder, latents or {})
        train_autoencoder.main()
        encode_and_cache_latents.main()
        path = Path("checkpoints/autoencoder/autoencoder.safetensors")
        checkpoint = load_checkpoint(path, kind="autoencoder", made_by="")
        return checkpoint, json.loads(Path("metrics/autoencoder.json").read_text()), read_stats()

    return both


@pytest.fixture
def pretrained(tmp_path_factory) -> Path:
    """A folder with a model that diffusers saved, of the architecture ``PRETRAINED``."""
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
