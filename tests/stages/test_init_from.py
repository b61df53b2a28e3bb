"""``autoencoder.init_from`` and ``denoiser.init_from``: a second run starts where a first one ended."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.load_params import load
from latentline.core.paths import AUTOENCODER, DENOISER
from latentline.denoisers.load import load_denoiser
from latentline.latents.cache import read_stats
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from latentline.runtime.parallel import SINGLE_PROCESS
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_denoiser.params import DenoiserParams
from stages.train_denoiser.train import build
from support.stage_runs import DIGITS

pytestmark = pytest.mark.usefixtures("machine")

OTHER_DIGEST = "0" * 64
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def first(digits_run: Path) -> Path:
    """Return a folder in which every stage has run."""
    return digits_run


@pytest.fixture
def second(first: Path, workplace: Path, write_params) -> Run:
    """Runs a stage in a copy of what ``first`` made, without its denoiser and states; returns the metrics."""
    for made in ("data", "encoded_img", "checkpoints/autoencoder"):
        shutil.copytree(first / made, workplace / made)

    def run(stage: Any, **changes: object) -> dict[str, Any]:
        write_params(workplace, {**DIGITS, **changes})
        stage.main()
        return json.loads(Path(f"metrics/{stage.__name__.split('.')[1].removeprefix('train_')}.json").read_text())

    return run


def _metrics(folder: Path, section: str) -> dict[str, Any]:
    return json.loads((folder / "metrics" / f"{section}.json").read_text())


def _checkpoint(path: Path) -> Checkpoint:
    return load_checkpoint(path, kind=path.stem, made_by="")


def test_an_autoencoder_starts_where_another_run_ended_and_stores_its_digest(first, second):
    given = first / AUTOENCODER
    metrics = second(
        train_autoencoder,
        **{"autoencoder.init_from": str(given.parent), "autoencoder.init_from_sha256": sha256_file(given)},
    )
    before = _metrics(first, "autoencoder")
    assert metrics["untrained"] == {name: before[name] for name in metrics["untrained"]}
    assert metrics["test_loss"] < before["test_loss"]
    assert _checkpoint(AUTOENCODER).trained_on["init_from"] == sha256_file(given)
    assert str(first).encode() not in AUTOENCODER.read_bytes()


def test_a_denoiser_starts_where_another_run_ended(first, second):
    given = first / DENOISER
    params = {"denoiser.init_from": str(given.parent), "denoiser.init_from_sha256": sha256_file(given)}
    metrics = second(train_denoiser, **params)
    before = _metrics(first, "denoiser")
    assert metrics["untrained"]["test_loss"] == before["test_loss"]
    first_losses, losses = (
        pd.read_csv(folder / "fig" / "denoiser" / "loss.csv")["val_loss"] for folder in (first, Path())
    )
    assert losses.iloc[0] < first_losses.iloc[0]
    assert losses.iloc[-1] < first_losses.iloc[-1]
    assert _checkpoint(DENOISER).trained_on["init_from"] == sha256_file(given)


def test_no_epochs_use_the_weights_as_they_are(first, second):
    for stage, path in ((train_denoiser, DENOISER), (train_autoencoder, AUTOENCODER)):
        metrics = second(stage, **{f"{path.stem}.init_from": str((first / path).parent), f"{path.stem}.epochs": 0})
        kept, given = _checkpoint(path).tensors, _checkpoint(first / path).tensors
        assert all(torch.equal(kept[name], tensor) for name, tensor in given.items())
        assert metrics["test_loss"] == _metrics(first, path.stem)["test_loss"]
        assert pd.read_csv(f"fig/{path.stem}/loss.csv")["epoch"].tolist() == [0]


def test_the_guide_comes_along_where_no_training_moves_the_weights_away_from_it(first, second, write_params):
    for epochs, keeps in ((0, True), (1, False)):
        changes = {"denoiser.init_from": str((first / DENOISER).parent), "denoiser.epochs": epochs}
        write_params(Path(), {**DIGITS, **changes})
        params, seed, _ = load("denoiser", DenoiserParams)
        denoiser, _ = build(params, read_stats(), seed, torch.device("cpu"), SINGLE_PROCESS)
        assert (denoiser.guide is not None) == keeps
    second(train_denoiser, **changes)  # ends before guide_epochs
    assert load_denoiser(torch.device("cpu"), read_stats()).guide is None


def test_a_setting_that_shapes_no_weights_may_differ(first, second):
    changes = {"autoencoder.kl_weight": 0.5, "autoencoder.reconstruction": "l1"}
    assert second(
        train_autoencoder,
        **{"autoencoder.init_from": str((first / AUTOENCODER).parent), "autoencoder.epochs": 0, **changes},
    )


@pytest.mark.parametrize(
    ("stage", "path", "changes", "expected"),
    [
        (
            train_autoencoder,
            AUTOENCODER,
            {"autoencoder.latent_channels": 4},
            ["autoencoder.latent_channels (2, here 4)"],
        ),
        (train_autoencoder, AUTOENCODER, {"autoencoder.name": "ae"}, ["autoencoder.name (vae, here ae)"]),
        (
            train_autoencoder,
            AUTOENCODER,
            {"autoencoder.encoder_channels": [16], "autoencoder.encoder_blocks": [2]},
            ["autoencoder.encoder_channels ([8], here [16])", "autoencoder.encoder_blocks ([1], here [2])"],
        ),
        (
            train_autoencoder,
            AUTOENCODER,
            {"autoencoder.init_from_sha256": OTHER_DIGEST},
            [f"autoencoder.init_from_sha256 ({OTHER_DIGEST}) must be the sha256 of"],
        ),
        (
            train_autoencoder,
            DENOISER,
            {},
            ["autoencoder.init_from (", "must be a folder", "has no autoencoder.safetensors"],
        ),
        (train_denoiser, DENOISER, {"denoiser.channels": [24]}, ["denoiser.channels ([16], here [24])"]),
        (train_denoiser, DENOISER, {"denoiser.name": "dit"}, ["denoiser.name (unet, here dit)"]),
        (
            train_denoiser,
            DENOISER,
            {"denoiser.condition": "none"},
            ["denoiser.condition (['label'], here [])", "width of the condition (10, here 0)"],
        ),
        (
            train_denoiser,
            DENOISER,
            {"denoiser.process.path": "vp_linear", "denoiser.process.prediction": "v", "sample.sampler": "ddim"},
            ["denoiser.process.path (flow, here vp_linear)", "denoiser.process.prediction (velocity, here v)"],
        ),
        (
            train_denoiser,
            DENOISER,
            {"denoiser.init_from_sha256": OTHER_DIGEST},
            [f"denoiser.init_from_sha256 ({OTHER_DIGEST}) must be the sha256 of"],
        ),
        (train_denoiser, AUTOENCODER, {}, ["denoiser.init_from (", "must be a folder", "has no denoiser.safetensors"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_in_one_line_before_any_work(first, second, stage, path, changes, expected):
    section = stage.__name__.split(".")[1].removeprefix("train_")
    with pytest.raises(UserError) as caught:
        second(stage, **{f"{section}.init_from": str((first / path).parent), **changes})
    (line,) = str(caught.value).splitlines()
    for part in expected:
        assert part in line
    assert not Path("fig").exists()
    assert not Path("metrics").exists()
    assert not Path(".state").exists()


def test_latents_of_another_shape_are_refused(first, second):
    second(train_autoencoder, **{"autoencoder.latent_channels": 3})
    encode_and_cache_latents.main()
    with pytest.raises(UserError, match=r"shape of the latents \(\[2, 4, 4\], here \[3, 4, 4\]\)"):
        second(
            train_denoiser, **{"autoencoder.latent_channels": 3, "denoiser.init_from": str((first / DENOISER).parent)}
        )


def test_another_autoencoders_latents_of_the_same_shape_are_only_warned_of(first, second, caplog):
    params = {"denoiser.init_from": str((first / DENOISER).parent)}
    second(train_denoiser, **params)
    assert not caplog.records
    second(train_autoencoder, **{"autoencoder.epochs": 1})
    encode_and_cache_latents.main()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        second(train_denoiser, **params)
    (message,) = caplog.messages
    assert "was trained on the latents of another autoencoder" in message


def test_a_damaged_checkpoint_is_refused_by_the_settings_name(first, second, tmp_path):
    content = bytearray((first / DENOISER).read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "denoiser.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"^denoiser\.init_from: .* is damaged"):
        second(train_denoiser, **{"denoiser.init_from": str(tmp_path / "damaged")})


def test_the_weights_of_a_diffusion_autoencoder_include_its_components_which_do_not_train_again(first, second):
    shape = {
        "autoencoder.name": "diffae",
        "autoencoder.diffae.inner": "vae",
        "autoencoder.diffae.encoder_training": "pretrained",
        "autoencoder.diffae.encoder_channels": [8],
        "autoencoder.diffae.encoder_blocks": [1],
        "autoencoder.diffae.embedding_dim": 4,
        "autoencoder.diffae.channels": [8],
        "autoencoder.diffae.attention_levels": [],
        "autoencoder.diffae.patch_size": 1,
        "autoencoder.diffae.condition_width": 8,
        "autoencoder.diffae.sample_timesteps": 4,
        "autoencoder.diffae.pretrain_epochs": 1,
        "autoencoder.diffae.inner_epochs": 1,
        "autoencoder.epochs": 1,
        "denoiser.name": "mlp",
    }
    second(train_autoencoder, **shape)
    given = _checkpoint(Path(shutil.copytree(AUTOENCODER.parent, "given")) / AUTOENCODER.name).tensors
    second(train_autoencoder, **shape, **{"autoencoder.init_from": "given"})
    kept = _checkpoint(AUTOENCODER).tensors
    assert {name.split(".")[0] for name in kept if not torch.equal(kept[name], given[name])} == {"decoder"}
    assert not Path("fig/autoencoder/loss_inner.csv").exists()
