"""The whole pipeline, tiny, in one process: on images of which all kinds of things are known, or nothing; with all kinds of networks."""

import importlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.load_params import read_params, validate
from latentline.core.paths import DENOISER
from latentline.core.shards import ShardedArray
from latentline.data.samples import write_samples
from latentline.data.store import read_split
from latentline.feature_extractors import build as judges
from latentline.runtime.checkpoint import load_checkpoint
from stages.evaluate import features as seen
from stages.sample import __main__ as sample
from support.checkout import TINY

pytestmark = pytest.mark.usefixtures("machine")

STAGES = (
    "download",
    "train_feature_extractor",
    "train_autoencoder",
    "encode_and_cache_latents",
    "train_denoiser",
    "sample",
    "train_latent_classifiers",
    "manipulate",
    "evaluate",
)
KNOBS = {
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
GRIDS = ("sample.figures", "denoiser.preview")
COUNT = 60
EDITS = {
    "flip_rate.png",
    "kept.png",
    "trade_off.png",
    "strips.png",
    "strips_random.png",
    "before_after.png",
    "edits.gif",
}
EDITS |= {"interpolations.png", "perturbations.png"}
EDITS_WITH_NOISE = {"style_mixing.png", "conditioned_samples.png", "perturbed_redrawn.png"}
KNOWN = {  # columns of the CSV
    "everything": ["label", "dotted", "colour", "level"],
    "one_number": ["level"],
    "yes_or_no": ["dotted", "wide"],
    "what_never_varies": ["label", "public", "size"],
    "nothing": [],
}
NUMBERS = {"level", "size"}
NETWORKS: dict[str, dict[str, object]] = {  # trained on classes
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


class TinyEfficientNet(nn.Module):
    """Stands in for the pretrained network, which would take too long here: the colours of four quarters."""

    FEATURES = 12

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(self.FEATURES))

    def load_published(self, weights: dict[str, torch.Tensor]) -> None:
        assert weights

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


@dataclass(frozen=True)
class Workplace:
    """A folder in which stages run."""

    folder: Path
    known: list[str]
    networks: dict[str, object]
    write_params: Callable[[Path, dict[str, object]], None]

    def run(self, *stages: str, **params: object) -> None:
        self.write_params(self.folder, {**KNOBS, **self.networks, **params})
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.delenv("DVC_ROOT", raising=False)
            patch.setattr(judges, "EfficientNetLite0", TinyEfficientNet)
            patch.setattr(judges, "FEATURES", TinyEfficientNet.FEATURES)
            for stage in stages:
                importlib.import_module(f"stages.{stage}.__main__").main()

    def copy(self, folder: Path) -> "Workplace":
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def metrics(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())

    def samples(self) -> dict[str, torch.Tensor]:
        return load_arrays(self.folder / "data" / "generated" / "samples-00000.safetensors", "sample")[0]

    @property
    def varied(self) -> bool:
        """Whether images differ in what is known of them."""
        return self.known not in (KNOWN["nothing"], KNOWN["what_never_varies"])

    @property
    def attributes(self) -> set[str]:
        return set(self.known) - {"label"}


def _draw(folder: Path, known: list[str]) -> None:
    """Bars on coloured ground in ``folder``/pictures, and what is ``known`` of them in labels.csv."""
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
    if "size" in known:
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
    (folder / "labels.csv").write_text(table[["file", *known]].to_csv(index=False) if known else "\n")


@pytest.fixture(scope="module", params=[*KNOWN, *NETWORKS])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_params: Callable[..., None]
) -> Workplace:
    """A folder in which every stage ran. Tests that change anything take a copy of it."""
    known, networks = KNOWN.get(request.param, ["label"]), NETWORKS.get(request.param, {})
    workplace = Workplace(tmp_path_factory.mktemp(request.param), known, networks, write_params)
    _draw(workplace.folder, workplace.known)
    (workplace.folder / "data" / "edit").mkdir(parents=True)
    workplace.run(*STAGES)
    return workplace


with_networks = pytest.mark.parametrize("finished", NETWORKS, indirect=True)
with_everything = pytest.mark.parametrize("finished", ["everything"], indirect=True)


def test_the_judge_is_scored_on_every_column_and_pretrained_where_none_differs(finished):
    metrics = finished.metrics("feature_extractor")
    if not finished.known:
        assert metrics == {"judge": "efficientnet_lite0"}
        return
    assert metrics["judge"] == ("classifier" if finished.varied else "efficientnet_lite0")
    assert metrics["by_column"].keys() == metrics["by_column_of_the_best_constant"].keys() == set(finished.known)
    decisive = ["label"] if "label" in finished.known else sorted(finished.attributes - NUMBERS)
    assert ("accuracy" in metrics) == bool(decisive)
    if decisive:
        assert metrics["accuracy"] == pytest.approx(
            np.mean([metrics["by_column"][name] for name in decisive]), rel=1e-5
        )
    if finished.varied:
        assert sum(metrics["by_column"].values()) > sum(metrics["by_column_of_the_best_constant"].values())


def test_there_is_a_probe_of_every_column(finished):
    metrics = finished.metrics("latent_classifiers")
    if not finished.known:
        assert metrics == {"columns": 0}
        return
    assert metrics.get("by_attribute", {}).keys() == finished.attributes
    for name, scores in metrics.get("by_attribute", {}).items():
        assert (
            scores.keys() == {"r2"}
            if name in NUMBERS
            else scores.keys() >= {"accuracy", "accuracy_of_the_commonest_class"}
        )
    assert metrics.keys() >= ({"r2"} if set(finished.known) <= NUMBERS else {"accuracy"})


def test_samples_have_the_labels_and_attributes_of_training_images(finished):
    samples = finished.samples()
    assert samples["images"].shape == (40, 3, 16, 16)
    assert samples["images"].dtype == torch.uint8
    assert samples.keys() == {
        "images",
        *({"labels"} & {f"{name}s" for name in finished.known}),
        *(["attributes"] if finished.attributes else []),
    }
    train = read_split(finished.folder / "data" / "prepared", "train")
    drawn = torch.cat(
        [samples[name].float().reshape(40, -1) for name in ("labels", "attributes") if name in samples]
        or [torch.empty(40, 0)],
        dim=1,
    )
    assert {tuple(row) for row in drawn.tolist()} <= {tuple(row) for row in train.values.tolist()}
    if "labels" in samples:
        classes = len(set(train.labels.tolist()))
        assert samples["labels"].tolist() == [index % classes for index in range(40)]
    guided = 2 if finished.known else 1
    assert finished.metrics("sample") == {"count": 40, "network_evaluations": 2 * 2 * guided}  # steps, Heun, guidance


def test_samples_are_scored_beside_their_floors_and_against_what_they_were_drawn_for(finished):
    metrics = finished.metrics("evaluate")
    assert metrics["judge"] == finished.metrics("feature_extractor")["judge"]
    assert metrics["count"] == 40
    for score, floor in (
        ("fd", "fd_floor_real_test"),
        ("fd_reconstruction", "fd_of_decoded_noise"),
        ("kd", "kd_floor_real_test"),
        *(
            (score, f"{score}_of_real_test")
            for score in ("precision", "recall", "density", "coverage", "nearest_train_distance")
        ),
    ):
        assert isinstance(metrics[score], float)
        assert isinstance(metrics[floor], float)
    assert ("class_accuracy" in metrics) == ("class_accuracy_of_real_test" in metrics) == ("label" in finished.known)
    assert metrics.get("by_attribute", {}).keys() == finished.attributes
    assert all(scores.keys() == {"samples", "real_test"} for scores in metrics.get("by_attribute", {}).values())


def test_what_is_known_of_real_images_is_judged_alike_by_both_stages_that_do(finished):
    judge, scores = finished.metrics("feature_extractor").get("by_column", {}), finished.metrics("evaluate")
    real = {
        "label": scores.get("class_accuracy_of_real_test"),
        **{name: both["real_test"] for name, both in scores.get("by_attribute", {}).items()},
    }
    assert {name: real[name] for name in finished.known} == judge


def test_images_are_edited_towards_all_that_differs(finished):
    metrics = finished.metrics("manipulate")
    if not finished.varied:
        assert metrics == {"targets": 0}
    else:
        assert [row["strength"] for row in metrics["by_strength"]] == TINY["manipulate.strengths"]
        scores = {"flip_rate", "ssim", *(["identity"] if len(finished.known) > 1 else [])}
        assert metrics.keys() == {
            *scores,
            *(f"{score}_random" for score in scores),
            "targets",
            "target_names",
            "by_strength",
        }
        assert all(-1 <= metrics[score] <= 1 for score in scores)
        assert len(metrics["target_names"]) == metrics["targets"]


def test_every_stage_shows_what_there_is_to_see(finished):
    figures = {folder.name: {path.name for path in folder.iterdir()} for folder in (finished.folder / "fig").iterdir()}
    labelled = "label" in finished.known
    learnt = {"loss.csv", "loss.png", *(["confusion.png"] if labelled else [])}
    assert figures["feature_extractor"] == (learnt if finished.known else {"loss.csv", "notice.png"})
    assert ("confusion.png" in figures["latent_classifiers"]) == labelled
    assert ("notice.png" in figures["latent_classifiers"]) == (not finished.known)
    edits = EDITS | (EDITS_WITH_NOISE if finished.networks.get("autoencoder.name") == "diffae" else set())
    assert figures["manipulate"] - {"arithmetic.png"} == {"curves.csv", *(edits if finished.varied else {"notice.png"})}
    assert figures["denoiser"] >= {"preview_0001.png", "preview_0002.png", "loss.csv", "buckets.csv"}
    assert figures["sample"] == {"grid.png", "trajectory.png"}
    assert figures["evaluate"] == {"fd.png", "nearest_train.png"}
    assert all(path.stat().st_size > 0 for path in (finished.folder / "fig").rglob("*") if path.is_file())


def test_every_plot_of_the_pipeline_finds_its_columns(finished, root):
    for plot in YAML(typ="safe", pure=True).load(root / "dvc.yaml")["plots"]:
        for settings in plot.values():
            for path, names in settings["y"].items():
                columns = pd.read_csv(finished.folder / path).columns
                assert {settings["x"], *([names] if isinstance(names, str) else names)} <= set(columns), path


@with_networks
def test_every_kind_of_network_leaves_all_metrics_and_draws_its_latents(finished):
    denoiser, metrics = finished.networks.get("denoiser.name", "unet"), finished.metrics("autoencoder")
    made_of = {"unet": 3 * 16 * 16, "mlp": 8, "dit": 2 * 4 * 4}[denoiser]
    assert metrics["latent_size"] == made_of
    assert (metrics["kl"] is None) == (denoiser != "dit")
    assert np.isfinite([metrics[name] for name in ("mse", "psnr", "ssim", "test_loss")]).all()
    assert np.isfinite([finished.metrics("denoiser")[name] for name in ("train_loss", "val_loss", "test_loss")]).all()
    assert load_checkpoint(finished.folder / DENOISER, kind="denoiser", made_by="train_denoiser").name == denoiser
    for name in ("reconstructions", "interpolations", "latents"):
        assert (finished.folder / "fig" / "autoencoder" / f"{name}.png").is_file()
    assert {path.name for path in (finished.folder / "fig" / "latents").iterdir()} == {"channels.png", "histograms.png"}


def test_trajectories_are_images_whatever_the_latent(finished):
    with Image.open(finished.folder / "fig" / "sample" / "trajectory.png") as picture:
        assert picture.size == (
            2 * (3 * 18 + 2),
            2 * (4 * 3 * 18 + 2),
        )  # 3 states in a row of images of 16 pixels, 3 rows of 4 samples, gaps of 2


@with_everything
def test_images_are_edited_towards_as_many_targets_as_asked_for(finished, tmp_path, caplog):
    copy = finished.copy(tmp_path / "copy")
    with caplog.at_level(logging.INFO):
        copy.run("manipulate", **{"manipulate.targets": 3})
    assert "editing towards 3 of 7 targets (manipulate.targets)" in caplog.messages
    with Image.open(copy.folder / "fig" / "manipulate" / "strips.png") as picture:
        assert picture.height == 2 * (3 * 18 + 2)


@with_everything
def test_images_are_edited_towards_what_is_named_and_an_unknown_name_is_refused(finished, tmp_path, caplog):
    copy = finished.copy(tmp_path / "copy")
    copy.run("manipulate", **{"manipulate.target_names": ["dotted", "standing", "colour=red"]})
    assert copy.metrics("manipulate")["target_names"] == ["standing", "dotted", "colour=red"]
    with caplog.at_level(logging.INFO):
        copy.run("manipulate", **{"manipulate.target_names": ["lying"], "manipulate.source_class": "lying"})
    assert copy.metrics("manipulate") == {"targets": 0}
    assert "not editing towards lying: all images to edit are so, or nothing could be learnt" in caplog.messages
    with pytest.raises(
        UserError,
        match=r"manipulate\.target_names: 'flying' is unknown; expected one of lying, standing, dotted, colour=blue, ",
    ):
        copy.run("manipulate", **{"manipulate.target_names": ["flying"]})


@with_everything
def test_one_image_alone_can_be_edited(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.run("manipulate", **{"manipulate.images": [4]})
    (row,) = read_split(finished.folder / "data" / "prepared", "test").values[[4]].tolist()
    assert {"lying", "standing"} - {["lying", "standing"][int(row[0])]} <= set(
        copy.metrics("manipulate")["target_names"]
    )
    with Image.open(copy.folder / "fig" / "manipulate" / "before_after.png") as picture:
        assert picture.width == 2 * (18 + 2)


@with_everything
def test_files_take_the_place_of_test_images_and_the_judge_says_what_they_are(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    for number in range(3):
        shutil.copy(copy.folder / "pictures" / f"{number}.png", copy.folder / "data" / "edit")
    copy.run("manipulate")
    with Image.open(copy.folder / "fig" / "manipulate" / "before_after.png") as picture:
        assert picture.width <= 2 * (3 * 18 + 2)
    assert copy.metrics("manipulate")["ssim"] != finished.metrics("manipulate")["ssim"]


@with_everything
@pytest.mark.parametrize(
    "params",
    [{"renoise": 0.5, "renoise_guidance_scale": 2.0}, {"direction": "mean_difference"}],
    ids=["renoise", "means"],
)
def test_edits_of_another_way_differ_in_all_that_is_measured_and_not_in_what_is_edited(finished, tmp_path, params):
    copy = finished.copy(tmp_path / "copy")
    copy.run("manipulate", **{f"manipulate.{name}": value for name, value in params.items()})
    ours, before = copy.metrics("manipulate"), finished.metrics("manipulate")
    assert ours["target_names"] == before["target_names"]
    assert ours["ssim"] != before["ssim"]


@with_everything
def test_a_denoiser_of_other_latents_of_the_same_autoencoder_is_refused(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.run("encode_and_cache_latents", **{"latents.scaling": 0.5})
    with pytest.raises(
        UserError, match="trained on other latents than encoded_img holds; run `dvc repro train_denoiser`"
    ):
        copy.run("sample")


@with_everything
@pytest.mark.parametrize(
    ("condition", "told", "evaluations"), [("class", {"images", "labels"}, 8), ("none", {"images"}, 4)]
)
def test_a_denoiser_that_is_told_less_is_scored_on_less(finished, tmp_path, caplog, condition, told, evaluations):
    copy = finished.copy(tmp_path / "copy")
    with caplog.at_level(logging.INFO):
        copy.run("train_denoiser", "sample", "evaluate", **{"denoiser.condition": condition})
    words = [message.split()[0] for message in caplog.messages if "has no effect" in message]
    assert words == (["denoiser.preview.guidance_scale", "sample.guidance_scale"] if condition == "none" else [])
    assert copy.samples().keys() == told
    assert copy.metrics("sample")["network_evaluations"] == evaluations
    assert ("class_accuracy" in copy.metrics("evaluate")) == ("labels" in told)
    assert "by_attribute" not in copy.metrics("evaluate")
    assert copy.metrics("evaluate")["fd_floor_real_test"] == finished.metrics("evaluate")["fd_floor_real_test"]


@with_everything
def test_samples_go_to_disk_as_they_are_drawn_and_are_scored_as_they_are_read(finished, tmp_path, monkeypatch):
    copy = finished.copy(tmp_path / "copy")
    on_disk, read = [], []
    draw, gather = sample.draw_latents, ShardedArray.__getitem__

    def watched_draw(*arguments, **options):
        on_disk.append(len(list((copy.folder / "data" / ".partial-generated").glob("samples-*"))))
        return draw(*arguments, **options)

    def watched_gather(images, rows):
        found = gather(images, rows)
        read.append(len(found))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sample, "draw_latents", watched_draw)
        patch.setattr(sample, "write_generated", partial(write_samples, shard_bytes=10 * 3 * 16 * 16))
        copy.run("sample")
    assert on_disk == [0, 1, 3, 0]  # shards of 10 images, when 0, 16 and 32 are drawn; the last draws the trajectories
    shards = sorted((copy.folder / "data" / "generated").iterdir())
    whole = finished.samples()
    for name in ("images", "labels", "attributes"):
        assert torch.equal(torch.cat([load_arrays(path, "sample")[0][name] for path in shards]), whole[name])
    grids = [(place.folder / "fig" / "sample" / "grid.png").read_bytes() for place in (copy, finished)]
    assert grids[0] == grids[1]

    with monkeypatch.context() as patch:
        patch.setattr(ShardedArray, "__getitem__", watched_gather)
        patch.setattr(seen, "_BATCH", 7)
        copy.run("evaluate")
    assert sum(read) > 40
    assert max(read) == 16  # in a row of the figure
    assert copy.metrics("evaluate")["fd"] == pytest.approx(finished.metrics("evaluate")["fd"], rel=1e-3)


@with_everything
def test_grids_have_a_row_per_class_and_the_size_asked_for(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    figures = {"height": 1, "width": 30, "scale": 3}
    copy.run(
        "sample",
        "train_denoiser",
        **{f"{section}.{name}": value for section in GRIDS for name, value in figures.items()},
    )

    def sizes(place: Workplace) -> list[tuple[int, int]]:
        pictures = []
        for name in ("sample/grid.png", "denoiser/preview_0001.png"):
            with Image.open(place.folder / "fig" / name) as picture:
                pictures.append(picture.size)
        return pictures

    # Images of 16 pixels and gaps of 2. At first as in KNOBS, 2 classes in rows of 12 and of 2; then one row of all 20 images of a class, and of 30.
    assert sizes(finished) == [(2 * (18 * columns + 2), 2 * (18 * 2 + 2)) for columns in (12, 2)]
    assert sizes(copy) == [(3 * (18 * columns + 2), 3 * (18 + 2)) for columns in (20, 30)]


@with_everything
def test_the_head_of_a_pretrained_judge_is_trained_where_there_are_labels(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    params = {
        "feature_extractor.name": "efficientnet_lite0",
        "feature_extractor.epochs": 30,
        "feature_extractor.optimizer.lr": 0.05,
    }
    copy.run("train_feature_extractor", "evaluate", **params, **{"evaluate.max_images": 20})
    metrics = copy.metrics("feature_extractor")
    assert metrics["judge"] == copy.metrics("evaluate")["judge"] == "efficientnet_lite0"
    assert metrics["by_column"]["colour"] > metrics["by_column_of_the_best_constant"]["colour"]
    assert metrics["by_column"]["level"] > 0
    assert copy.metrics("evaluate")["count"] == 20


@with_everything
def test_switched_on_the_slow_scores_stand_beside_their_floors_and_change_no_other(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    found, before = {}, finished.metrics("evaluate")
    copy.run("evaluate", **{"evaluate.classification_accuracy_score": True})
    metrics = copy.metrics("evaluate")
    for score in ("classification_accuracy_score", "classification_accuracy_score_of_real_train"):
        assert 0 <= metrics.pop(score) <= 1
    assert metrics == before
    for method in ("denoising", "inversion", "likelihood"):
        copy.run("evaluate", **{"evaluate.bayes.count": 9, "evaluate.bayes.steps": 2, "evaluate.bayes.method": method})
        metrics = copy.metrics("evaluate")
        found[method] = metrics.pop("bayes")
        assert metrics == before
    for method, scores in found.items():
        assert (scores["method"], scores["count"]) == (method, 9)
        assert all(
            0 <= scores[name] <= 1
            for name in ("accuracy", "accuracy_of_the_judge", "accuracy_of_the_commonest_class", "standard_error")
        )
    assert (copy.folder / "fig" / "evaluate" / "bayes_confusion.png").stat().st_size > 0
    assert copy.metrics("timing")["evaluate"].keys() >= {"bayes_seconds", "classification_accuracy_score_seconds"}
    assert not list(
        (copy.folder / ".state").rglob("state.safetensors")
    )  # nothing goes on; what longer runs begin with is kept


@pytest.mark.parametrize("finished", ["one_number", "nothing"], indirect=True)
@pytest.mark.parametrize(
    ("knob", "value"), [("evaluate.bayes.count", 5), ("evaluate.classification_accuracy_score", True)]
)
def test_scores_of_classes_are_refused_in_one_line_where_there_are_none(finished, tmp_path, knob, value):
    copy = finished.copy(tmp_path / "copy")
    with pytest.raises(UserError, match=rf"^{re.escape(knob)}: .*set it to (0|false)") as caught:
        copy.run("evaluate", **{knob: value})
    assert len(str(caught.value).splitlines()) == 1


@with_everything
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
def test_images_come_of_any_process_by_samplers_that_serve_it_whatever_the_batch_size(
    finished, tmp_path, process, sampling, evaluations
):
    copy = finished.copy(tmp_path / "copy")
    path, prediction = process
    params = {
        "denoiser.process.path": path,
        "denoiser.process.prediction": prediction,
        "denoiser.process.loss_weighting": "min_snr",
    }
    params |= {f"sample.{name}": value for name, value in {**sampling, "steps": 3}.items()}
    copy.run("train_denoiser", "sample", **params)
    assert copy.metrics("sample")["network_evaluations"] == evaluations
    images = copy.samples()["images"]
    assert len(images.unique(dim=0)) > 1
    copy.run("sample", **params, **{"sample.batch_size": 3})
    assert (
        copy.samples()["images"].int() - images.int()
    ).abs().max() <= 1  # rounding; the noise of each image is its own


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"denoiser.process.prediction": "epsilon"}, "denoiser.process.prediction: epsilon is refused on path flow"),
        (
            {"denoiser.process.path": "vp_linear", "denoiser.process.prediction": "v", "sample.sampler": "flow_sde"},
            "sample.sampler: flow_sde is refused",
        ),
        (
            {"sample.sampler": "heun", "denoiser.process.prediction": "x0"},
            "sample.sampler: heun is refused for prediction x0",
        ),
        ({"sample.time_grid": "discrete", "sample.steps": 1001}, "sample.steps: 1001"),
        (
            {"sample.guidance_start": 0.7, "sample.guidance_end": 0.3},
            "sample.guidance_start (0.7) must be at most sample.guidance_end (0.3); ",
        ),
        (
            {"denoiser.condition": "none", "evaluate.bayes.count": 5},
            "evaluate.bayes.count (5) must be 0 while denoiser.condition is none; ",
        ),
        (
            {"denoiser.condition": "none", "evaluate.classification_accuracy_score": True},
            "evaluate.classification_accuracy_score (true) must be false while denoiser.condition is none; ",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work_in_one_line(tmp_path, write_params, params, line):
    write_params(tmp_path, {**KNOBS, **params})
    with pytest.raises(UserError, match=re.escape(f"params.yaml: {line}".removeprefix("params.yaml: "))) as caught:
        validate(read_params(tmp_path / "params.yaml"))
    assert len(str(caught.value).splitlines()) == 1
