"""checkpoints/moment_maps: the maps of stage ``sample`` serve the same denoiser and the same settings alone."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.paths import DENOISER, MOMENT_MAPS
from latentline.samplers.moment_file import SavedMoments, load_moments, maps_to_export, save_moments
from latentline.samplers.settings import SamplingSettings
from stages.sample.params import SampleParams
from support.exported_run import VELOCITY, write_moments, write_run

CPU = torch.device("cpu")
USUAL = SamplingSettings.of(SampleParams())


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter the folder of an untrained run."""
    monkeypatch.chdir(tmp_path)
    write_run("unet", "ae", VELOCITY, ["label"])


def test_the_maps_come_back_for_their_settings_alone() -> None:
    maps, condition = write_moments(3), Condition(torch.eye(3))
    moments = load_moments(CPU)
    z0 = torch.randn(3, *maps.latent_shape)
    assert torch.equal(moments.maps_for(USUAL)(z0, condition), maps(z0, condition))
    for name, value in {"steps": 3, "guidance_scale": 1.5, "guide": "own", "sampler": "euler"}.items():
        assert moments.maps_for(replace(USUAL, **{name: value})) is None


def test_those_of_another_denoiser_are_left_aside() -> None:
    write_moments(3)
    DENOISER.unlink()
    write_run("dit", "ae", VELOCITY, ["label"])
    assert load_moments(CPU) is None


def test_an_export_takes_them_or_says_how_to_get_them(caplog: pytest.LogCaptureFixture) -> None:
    assert maps_to_export(USUAL, 100) is None
    assert "moment_maps.safetensors is missing, or of another denoiser; run `dvc repro --single-item" in caplog.text
    write_moments(3)
    caplog.clear()
    assert maps_to_export(USUAL, 100) is not None
    assert maps_to_export(USUAL, 0) is None
    assert not caplog.records
    assert maps_to_export(replace(USUAL, steps=3), 100) is None
    assert "moment_maps.safetensors was measured with other settings of section sample; run" in caplog.text


def test_a_stage_that_measured_nothing_says_so_and_an_export_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    save_moments(SavedMoments(None, USUAL))
    caplog.set_level(logging.INFO)
    assert load_moments(CPU) == SavedMoments(None, USUAL)
    assert maps_to_export(USUAL, 100) is None
    assert not caplog.records


def test_without_a_file_there_are_none() -> None:
    assert load_moments(CPU) is None


def test_a_damaged_file_is_refused_with_the_remedy() -> None:
    write_moments(3)
    MOMENT_MAPS.write_bytes(MOMENT_MAPS.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"moment_maps\.safetensors is damaged .* run `dvc repro sample`"):
        load_moments(CPU)
