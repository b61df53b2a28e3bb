"""Stage ``sample`` on the pixels of a few digits: samples depend on their index alone, and drawing on no figure."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentline.core.arrays import load_arrays
from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.diffusion.process import build_process
from latentline.samplers.settings import SamplingSettings
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.sample import __main__ as sample
from stages.sample import draw, report
from stages.sample.params import SampleParams
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from support.pictures import grid_size

pytestmark = pytest.mark.usefixtures("machine")

PARAMS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.name": "identity",
    "denoiser.epochs": 1,
    "denoiser.channels": [16],
    "denoiser.preview.every_epochs": 0,
    "denoiser.optimizer.batch_size": 20,
    "sample.count": 25,
    "sample.batch_size": 10,
    "sample.steps": 3,
    "evaluate.neighbours": 2,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
    "compute.save_every_seconds": 1e-6,
}
Run = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """Return a folder in which every stage before it ran."""
    folder = tmp_path_factory.mktemp("trained")
    write_params(folder, PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        for stage in (download, train_autoencoder, encode_and_cache_latents, train_denoiser):
            stage.main()
    return folder


@pytest.fixture
def run(trained: Path, write_params, monkeypatch) -> Run:
    """Run the stage with changed settings; return images and labels."""
    monkeypatch.chdir(trained)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def draw_samples(**changes: object) -> dict[str, Tensor]:
        write_params(trained, {**PARAMS, **changes})
        sample.main()
        return load_arrays(Path("data/generated/samples-00000.safetensors"), "sample")[0]

    return draw_samples


def test_an_image_depends_on_its_index_and_not_on_batches_or_count(run):
    drawn = run()
    assert drawn["images"].shape == (25, 1, 8, 8)
    assert drawn["labels"].tolist() == [index % 10 for index in range(25)]
    assert len(drawn["images"].unique(dim=0)) == 25
    fewer = run(**{"sample.count": 12, "sample.batch_size": 5})
    assert (fewer["images"].int() - drawn["images"][:12].int()).abs().max() <= 1  # rounding


def test_the_report_has_the_cost_a_row_per_class_and_three_rows_per_trajectory(run):
    run(
        **{"sample.figures.height": 4, "sample.figures.width": 2, "sample.figures.scale": 1, "sample.guidance_end": 1.0}
    )
    metrics = json.loads(Path("metrics/sample.json").read_text())
    assert metrics == {"count": 25, "network_evaluations": 6}  # at t = 1, 2/3 and 1/3, guided
    sizes = {path.name: grid_size(path) for path in Path("fig/sample").glob("*.png")}
    assert sizes == {"grid.png": (2 * 10 + 2, 4 * 10 + 2), "trajectory.png": (4 * 10 + 2, 3 * 4 * 10 + 2)}


def test_figures_that_cannot_be_drawn_cost_no_image(run, monkeypatch):
    """The stage is killed while it draws figures; the next run has the same images and draws none."""
    with monkeypatch.context() as patch:
        patch.setattr(report, "save_grid", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            run()
    drawn = load_arrays(Path("data/generated/samples-00000.safetensors"), "sample")[0]
    with monkeypatch.context() as patch:
        patch.setattr(draw.ImageSampler, "images", lambda *_: pytest.fail("an image was drawn"))
        again = run(**{"sample.figures.height": 3})
    assert torch.equal(again["images"], drawn["images"])


def test_a_sampler_that_cannot_serve_the_checkpoint_is_refused(trained, monkeypatch):
    monkeypatch.chdir(trained)
    denoiser = draw.load_image_sampler(SampleParams(count=4), 0, torch.device("cpu")).denoiser
    other = replace(denoiser, process=build_process("vp_cosine", "v"))
    with pytest.raises(UserError, match=r"^sampler \(flow_sde\) must be one of .* on path vp_cosine, "):
        SamplingSettings.of(SampleParams(sampler="flow_sde")).config(other)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "sample.guidance_scale (3.5)"),
        ({"sample.guidance_scale": 100.0}, "sample.guidance_scale (100.0)"),
        ({"sample.sampler": "flow_sde", "sample.diffusion": 50.0}, "sample.diffusion (50.0)"),
    ],
)
def test_latents_that_are_not_finite_stop_the_stage_and_leave_no_images(run, monkeypatch, settings, named):
    with monkeypatch.context() as patch:
        patch.setattr(draw, "draw_latents", lambda *arguments: torch.full((10, 1, 8, 8), torch.nan))
        with pytest.raises(UserError, match=rf"^{re.escape(named)} must give finite latents, not NaN .* in 10 of 10; "):
            run(**settings, **{"sample.count": 10, "sample.figures.scale": 7})


def test_one_value_has_no_deviation_to_rescale_to(trained, monkeypatch):
    monkeypatch.chdir(trained)
    denoiser = draw.load_image_sampler(SampleParams(count=4), 0, torch.device("cpu")).denoiser
    single = replace(denoiser, latent_shape=(1,))
    message = r"^sample\.guidance_rescale \(0\.5\) must be 0 for latents of a single value"
    with pytest.raises(UserError, match=message):
        SamplingSettings.of(SampleParams(guidance_rescale=0.5)).config(single, "sample.")
    SamplingSettings.of(SampleParams(guidance_rescale=0.5, guidance_scale=1.0)).config(single, "sample.")
    SamplingSettings.of(SampleParams(guidance_rescale=0.5)).config(denoiser, "sample.")


def test_what_draws_images_imports_nothing_that_draws_figures(root):
    closure = {path.relative_to(root).as_posix() for path in module_closure("stages.sample.draw", root)}
    assert {"stages/sample/params.py", "src/latentline/samplers/heun.py"} <= closure
    assert [path for path in closure if path.endswith("/report.py") or "/figures/" in path] == []
