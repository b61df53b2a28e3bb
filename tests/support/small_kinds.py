"""Tiny runs of the whole pipeline in this process, with labels of all kinds and with all kinds of networks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from latentline.core.arrays import load_arrays
from latentline.feature_extractors import build as feature_extractors
from support.checkout import STAGES, TINY
from support.pictures import grid_size
from support.stage_runs import run_stages

SMALL = {
    **TINY,
    "data.name": "image_folder",
    "data.path": "pictures",
    "data.labels": "labels.csv",
    "data.limit": None,
    "data.splits": {"val": 0.2, "test": 0.25},
    "feature_extractor.optimizer.batch_size": 8,
    "latent_classifiers.inverse_regularization": 1.0,
    "latent_classifiers.max_iterations": 200,
    "compute.device": "cpu",
    "compute.workers": 0,
}
COUNT = 60  # images
LABELS = {  # kind -> columns of the CSV
    "everything": ["label", "dotted", "colour", "level"],
    "one_number": ["level"],
    "yes_or_no": ["dotted", "wide"],
    "constant_labels": ["label", "public", "size"],
    "no_labels": [],
}
NUMBERS = {"level", "size"}
NETWORKS: dict[str, dict[str, object]] = {  # kind, with class labels -> settings
    "identity_unet": {"autoencoder.name": "identity"},
    "ae_mlp": {
        "autoencoder.name": "ae",
        "autoencoder.latent_dim": 8,
        "denoiser.name": "mlp",
        "denoiser.width": 32,
        "denoiser.depth": 2,
    },
    "diffae_mlp": {
        "autoencoder.name": "diffae",
        "autoencoder.figures.preview_every_epochs": 2,
        "autoencoder.diffae.inner": "vae",
        "autoencoder.diffae.inner_epochs": 2,
        "autoencoder.diffae.embedding_dim": 8,
        "autoencoder.diffae.encoder_channels": [8, 16],
        "autoencoder.diffae.encoder_training": "pretrained",
        "autoencoder.diffae.pretrain_epochs": 2,
        "autoencoder.diffae.channels": [16],
        "autoencoder.diffae.attention_levels": [],
        "autoencoder.diffae.patch_size": 1,
        "autoencoder.diffae.condition_width": 16,
        "autoencoder.diffae.sample_timesteps": 3,
        "denoiser.name": "mlp",
        "denoiser.width": 32,
        "denoiser.depth": 2,
    },
    "vae_dit": {
        "denoiser.name": "dit",
        "denoiser.width": 32,
        "denoiser.depth": 2,
        "denoiser.heads": 2,
        "denoiser.patch_size": 2,
    },
}
KINDS = [*LABELS, *NETWORKS]
each_network = pytest.mark.parametrize("small_run", NETWORKS, indirect=True)
with_everything = pytest.mark.parametrize("small_run", ["everything"], indirect=True)
without_classes = pytest.mark.parametrize("small_run", ["one_number", "no_labels"], indirect=True)


class TinyEfficientNet(nn.Module):
    """Stand-in for the pretrained network, which would take too long here: the colours of four quarters."""

    FEATURES = 12

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(self.FEATURES))

    def load_published(self, weights: dict[str, torch.Tensor]) -> None:
        assert weights

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


@dataclass(frozen=True)
class SmallRun:
    """A folder in which stages run."""

    folder: Path
    columns: list[str]
    """Labels of the images."""
    networks: dict[str, object]
    """Settings in which the run differs from ``SMALL``."""
    write_params: Callable[[Path, dict[str, object]], None]

    def run(self, *stages: str, **params: object) -> None:
        """Run stages with other values of some settings."""
        self.write_params(self.folder, {**SMALL, **self.networks, **params})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feature_extractors, "EfficientNetLite0", TinyEfficientNet)
            patch.setattr(feature_extractors, "FEATURES", TinyEfficientNet.FEATURES)
            patch.setattr(feature_extractors, "InceptionV3", TinyEfficientNet)
            patch.setattr(feature_extractors, "INCEPTION_FEATURES", TinyEfficientNet.FEATURES)
            run_stages(self.folder, *stages)

    def make(self) -> None:
        """Draw the images and run every stage."""
        (self.folder / "data" / "edit").mkdir(parents=True)
        _draw(self.folder, self.columns)
        self.run(*STAGES)

    def copy(self, folder: Path) -> "SmallRun":
        """Copy the run to ``folder``."""
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def metrics(self, name: str) -> dict[str, Any]:
        """Return metrics/NAME.json."""
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())

    def samples(self) -> dict[str, torch.Tensor]:
        """Return the arrays of the first shard of samples."""
        return load_arrays(self.folder / "data" / "generated" / "samples-00000.safetensors", "sample")[0]

    def figure_size(self, name: str) -> tuple[int, int]:
        """Return width and height in pixels of the images in the grid fig/NAME."""
        return grid_size(self.folder / "fig" / name)

    @property
    def labels_vary(self) -> bool:
        """Whether images differ in any label."""
        return self.columns not in (LABELS["no_labels"], LABELS["constant_labels"])

    @property
    def attributes(self) -> set[str]:
        """Columns besides the class."""
        return set(self.columns) - {"label"}


def small_run_of(kind: str, folder: Path, write_params: Callable[[Path, dict[str, object]], None]) -> SmallRun:
    """Return the run of a kind in ``folder``."""
    return SmallRun(folder, LABELS.get(kind, ["label"]), NETWORKS.get(kind, {}), write_params)


def _draw(folder: Path, columns: list[str]) -> None:
    """Write bars on coloured ground to ``folder``/pictures, and their labels to labels.csv."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "file": [f"{number}.png" for number in range(COUNT)],
            "label": random.choice(["lying", "standing"], COUNT),
            "dotted": random.integers(0, 2, COUNT),
            "wide": random.integers(0, 2, COUNT),
            "colour": random.choice(["red", "green", "blue"], COUNT),
            "level": random.uniform(80, 240, COUNT),
            "public": 1,
            "size": 16.5,
        }
    )
    if "size" in columns:
        table["label"] = "lying"
    (folder / "pictures").mkdir()
    for row in table.itertuples():
        image = random.integers(0, 20, (16, 16, 3))
        image[..., ["red", "green", "blue"].index(row.colour)] += 40
        bar = slice(5, 11) if row.wide else slice(7, 9)
        image[(bar, slice(None)) if row.label == "lying" else (slice(None), bar)] = int(row.level)
        if row.dotted:
            image[1:4, 1:4] = 255
        Image.fromarray(image.astype(np.uint8)).save(folder / "pictures" / row.file)
    (folder / "labels.csv").write_text(table[["file", *columns]].to_csv(index=False) if columns else "\n")
