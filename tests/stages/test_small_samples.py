"""``train_denoiser`` and ``sample`` draw what their settings ask for, on a tiny run."""

import logging

import pytest
import torch

import latentline.data.samples
from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.runtime.resumable_map import ResumableMap
from support.small_kinds import SmallRun, with_everything

pytestmark = [pytest.mark.usefixtures("machine"), with_everything]

GRIDS = ("sample.figures", "denoiser.preview")


def test_a_denoiser_of_other_latents_of_the_same_autoencoder_is_refused(small_copy):
    small_copy.run("encode_and_cache_latents", **{"latents.scaling": 0.5})
    with pytest.raises(UserError, match=r"other latents.* encoded_img.*run `dvc repro train_denoiser`"):
        small_copy.run("sample")


@pytest.mark.parametrize(
    ("condition", "arrays", "evaluations"), [("class", {"images", "labels"}, 8), ("none", {"images"}, 4)]
)
def test_a_denoiser_with_a_smaller_condition_is_scored_on_less(
    small_run, small_copy, caplog, condition, arrays, evaluations
):
    with caplog.at_level(logging.INFO):
        small_copy.run("train_denoiser", "sample", "evaluate", **{"denoiser.condition": condition})
    settings = [message.split()[0] for message in caplog.messages if "has no effect" in message]
    assert settings == (["denoiser.preview.guidance_scale", "sample.guidance_scale"] if condition == "none" else [])
    assert small_copy.samples().keys() == arrays
    assert small_copy.metrics("sample")["network_evaluations"] == evaluations
    metrics = small_copy.metrics("evaluate")
    assert ("class_accuracy" in metrics) == ("labels" in arrays)
    assert "by_attribute" not in metrics
    assert metrics["fd_floor_real_test"] == small_run.metrics("evaluate")["fd_floor_real_test"]


def test_samples_go_to_disk_shard_by_shard_while_they_are_drawn(small_run, small_copy, monkeypatch):
    on_disk = []
    compute, write = ResumableMap._compute, latentline.data.samples.write_labelled_rows

    def watched_compute(chunks, number, make):
        on_disk.append(len(list((small_copy.folder / "data" / ".partial-generated").glob("samples-*"))))
        return compute(chunks, number, make)

    def write_small_shards(*arguments):
        return write(*arguments[:-1], 10 * 3 * 16 * 16)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableMap, "_compute", watched_compute)
        patch.setattr(latentline.data.samples, "write_labelled_rows", write_small_shards)
        small_copy.run("sample")
    assert on_disk == [0, 1, 3]  # shards of 10 images, when 0, 16 and 32 are drawn
    assert not (small_copy.folder / "data" / ".partial-generated").exists()
    shards = sorted((small_copy.folder / "data" / "generated").iterdir())
    assert len(shards) == 4
    whole = small_run.samples()
    for name in ("images", "labels", "attributes"):
        assert torch.equal(torch.cat([load_arrays(path, "sample")[0][name] for path in shards]), whole[name])
    grids = [(run.folder / "fig" / "sample" / "grid.png").read_bytes() for run in (small_copy, small_run)]
    assert grids[0] == grids[1]


def test_grids_have_a_row_per_class_and_the_size_asked_for(small_run, small_copy):
    figures = {"height": 1, "width": 30, "scale": 3}
    small_copy.run(
        "sample",
        "train_denoiser",
        **{f"{section}.{name}": value for section in GRIDS for name, value in figures.items()},
    )

    def sizes(run: SmallRun) -> list[tuple[int, int]]:
        previews = sorted((run.folder / "fig" / "denoiser").glob("preview_*.png"))
        return [run.figure_size(name) for name in ("sample/grid.png", f"denoiser/{previews[-1].name}")]

    # Images of 16 pixels and gaps of 2. SMALL asks for 2 classes in rows of 12 and of 2; the copy for one row, of all
    # 20 images of a class and of 30.
    assert sizes(small_run) == [(2 * (18 * columns + 2), 2 * (18 * 2 + 2)) for columns in (12, 2)]
    assert sizes(small_copy) == [(3 * (18 * columns + 2), 3 * (18 + 2)) for columns in (20, 30)]


@pytest.mark.parametrize(
    ("process", "sampling", "evaluations"),
    [
        (
            ("vp_linear", "epsilon"),
            {
                "sampler": "ddpm",
                "variance": "beta",
                "sigma_scale": 0.95,
                "time_grid": "discrete",
                "guidance_scale": 1.0,
            },
            3,
        ),
        (
            ("vp_cosine", "v"),
            {"sampler": "ddim", "eta": 0.5, "time_grid": "karras", "guidance_start": 0.2, "guidance_rescale": 0.7},
            5,
        ),
        (
            ("flow", "x0"),
            {"sampler": "flow_sde", "diffusion": 0.5, "time_grid": "shifted", "time_shift": 2.0, "guidance_end": 0.6},
            4,
        ),
    ],
    ids=["ddpm", "ddim", "flow_sde"],
)
def test_any_process_is_sampled_by_the_samplers_that_serve_it_in_batches_of_any_size(
    small_copy, process, sampling, evaluations
):
    path, prediction = process
    params = {
        "denoiser.process.path": path,
        "denoiser.process.prediction": prediction,
        "denoiser.process.loss_weighting": "min_snr",
    }
    params |= {f"sample.{name}": value for name, value in {**sampling, "steps": 3}.items()}
    small_copy.run("train_denoiser", "sample", **params)
    assert small_copy.metrics("sample")["network_evaluations"] == evaluations
    images = small_copy.samples()["images"]
    assert len(images.unique(dim=0)) > 1
    small_copy.run("sample", **params, **{"sample.batch_size": 3})
    difference = small_copy.samples()["images"].int() - images.int()
    assert difference.abs().max() <= 1  # rounding; the noise of each image is its own
