"""Every stage leaves what it promises, on images with labels of all kinds or none and with all kinds of networks."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from latentline.core.paths import DENOISER
from latentline.data.store import read_split
from latentline.runtime.checkpoint import load_checkpoint
from support.checkout import TINY
from support.small_kinds import NUMBERS, each_network

pytestmark = pytest.mark.usefixtures("machine")

EDITS = {
    "flip_rate.png",
    "kept.png",
    "trade_off.png",
    "strips.png",
    "strips_random.png",
    "before_after.png",
    "edits.gif",
    "interpolations.png",
    "perturbations.png",
}
EDITS_WITH_NOISE = {"style_mixing.png", "conditioned_samples.png", "perturbed_redrawn.png"}


def test_the_feature_extractor_is_scored_on_every_column_and_pretrained_where_no_label_varies(small_run):
    metrics = small_run.metrics("feature_extractor")
    if not small_run.columns:
        assert metrics["judge"] == "efficientnet_lite0"
        assert metrics.keys() <= {"judge", "feature_extractor"}
        return
    assert metrics["judge"] == ("classifier" if small_run.labels_vary else "efficientnet_lite0")
    assert metrics["by_column"].keys() == metrics["by_column_of_the_best_constant"].keys() == set(small_run.columns)
    decisive = ["label"] if "label" in small_run.columns else sorted(small_run.attributes - NUMBERS)
    assert ("accuracy" in metrics) == bool(decisive)
    if decisive:
        assert metrics["accuracy"] == pytest.approx(
            np.mean([metrics["by_column"][name] for name in decisive]), rel=1e-5
        )
    if small_run.labels_vary:
        assert sum(metrics["by_column"].values()) > sum(metrics["by_column_of_the_best_constant"].values())


def test_there_is_a_probe_of_every_column(small_run):
    metrics = small_run.metrics("latent_classifiers")
    if not small_run.columns:
        assert metrics == {"columns": 0}
        return
    assert metrics.get("by_attribute", {}).keys() == small_run.attributes
    for name, scores in metrics.get("by_attribute", {}).items():
        if name in NUMBERS:
            assert scores.keys() == {"r2"}
        else:
            assert scores.keys() >= {"accuracy", "accuracy_of_the_commonest_class"}
    assert metrics.keys() >= ({"r2"} if set(small_run.columns) <= NUMBERS else {"accuracy"})


def test_samples_have_the_labels_and_attributes_of_training_images(small_run):
    samples = small_run.samples()
    assert samples["images"].shape == (40, 3, 16, 16)
    assert samples["images"].dtype == torch.uint8
    assert samples.keys() == {
        "images",
        *({"labels"} & {f"{name}s" for name in small_run.columns}),
        *(["attributes"] if small_run.attributes else []),
    }
    train = read_split(small_run.folder / "data" / "prepared", "train").labels
    assert train.names == small_run.columns
    conditions = torch.cat(
        [samples[name].float().reshape(40, -1) for name in ("labels", "attributes") if name in samples]
        or [torch.empty(40, 0)],
        dim=1,
    )
    assert {tuple(row) for row in conditions.tolist()} <= {tuple(row) for row in train.values.tolist()}
    if "labels" in samples:
        classes = len(train.classes.unique())
        assert samples["labels"].tolist() == [index % classes for index in range(40)]
    guided = 2 if small_run.columns else 1
    assert small_run.metrics("sample") == {"count": 40, "network_evaluations": 2 * 2 * guided}  # steps, Heun, guidance


def test_samples_are_scored_beside_their_references_and_against_their_conditions(small_run):
    metrics = small_run.metrics("evaluate")
    assert metrics["judge"] == small_run.metrics("feature_extractor")["judge"]
    assert metrics["count"] == 40
    for score, reference in (
        ("fd", "fd_floor_real_test"),
        ("fd_reconstruction", "fd_of_decoded_noise"),
        ("kd", "kd_floor_real_test"),
        *(
            (score, f"{score}_of_real_test")
            for score in ("precision", "recall", "density", "coverage", "nearest_train_distance")
        ),
    ):
        assert isinstance(metrics[score], float)
        assert isinstance(metrics[reference], float)
    has_classes = "label" in small_run.columns
    assert ("class_accuracy" in metrics) == ("class_accuracy_of_real_test" in metrics) == has_classes
    assert metrics.get("by_attribute", {}).keys() == small_run.attributes
    compared = {"samples", "real_test", "reconstructions"}
    assert all(scores.keys() == compared for scores in metrics.get("by_attribute", {}).values())


def test_both_stages_that_classify_real_images_give_the_same_scores(small_run):
    by_column = small_run.metrics("feature_extractor").get("by_column", {})
    scores = small_run.metrics("evaluate")
    real = {
        "label": scores.get("class_accuracy_of_real_test"),
        **{name: both["real_test"] for name, both in scores.get("by_attribute", {}).items()},
    }
    assert {name: real[name] for name in small_run.columns} == by_column


def test_images_are_edited_towards_all_that_varies(small_run):
    metrics = small_run.metrics("manipulate")
    if not small_run.labels_vary:
        assert metrics == {"targets": 0}
        return
    assert [row["strength"] for row in metrics["by_strength"]] == TINY["manipulate.strengths"]
    scores = {"flip_rate", "ssim", *(["identity"] if len(small_run.columns) > 1 else [])}
    random = {f"{score}_random" for score in scores}
    assert metrics.keys() == {*scores, *random, "targets", "target_names", "by_strength"}
    assert all(-1 <= metrics[score] <= 1 for score in scores)
    assert len(metrics["target_names"]) == metrics["targets"]


def test_every_stage_draws_its_figures_or_a_notice(small_run):
    folders = (small_run.folder / "fig").iterdir()
    figures = {folder.name: {path.name for path in folder.iterdir()} for folder in folders}
    labelled = "label" in small_run.columns
    trained = {"loss.csv", "loss.png", *(["confusion.png"] if labelled else [])}
    assert figures["feature_extractor"] == (trained if small_run.columns else {"loss.csv", "notice.png"})
    assert ("confusion.png" in figures["latent_classifiers"]) == labelled
    assert ("notice.png" in figures["latent_classifiers"]) == (not small_run.columns)
    edits = EDITS | (EDITS_WITH_NOISE if small_run.networks.get("autoencoder.name") == "diffae" else set())
    drawn = edits if small_run.labels_vary else {"notice.png"}
    assert figures["manipulate"] - {"arithmetic.png"} == {"curves.csv", *drawn}
    assert figures["denoiser"] >= {"preview_0001.png", "preview_0002.png", "loss.csv", "buckets.csv"}
    assert figures["sample"] == {"grid.png", "trajectory.png", "sampling.gif"}
    assert figures["evaluate"] == {"fd.png", "nearest_train.png"}
    assert all(path.stat().st_size > 0 for path in (small_run.folder / "fig").rglob("*") if path.is_file())
    for path in (small_run.folder / "fig").rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.info["Title"] or path.stem == "notice", path


def test_every_plot_of_the_pipeline_finds_its_columns(small_run, root):
    for plot in YAML(typ="safe", pure=True).load(root / "dvc.yaml")["plots"]:
        for settings in plot.values():
            for path, names in settings["y"].items():
                columns = pd.read_csv(small_run.folder / path).columns
                assert {settings["x"], *([names] if isinstance(names, str) else names)} <= set(columns), path


def test_trajectories_are_images_for_every_latent_shape(small_run):
    # 3 states in a row of images of 16 pixels, 3 rows of 4 samples, gaps of 2
    assert small_run.figure_size("sample/trajectory.png") == (2 * (3 * 18 + 2), 2 * (4 * 3 * 18 + 2))


@each_network
def test_every_kind_of_network_writes_all_metrics_and_draws_its_latents(small_run):
    denoiser, metrics = small_run.networks.get("denoiser.name", "unet"), small_run.metrics("autoencoder")
    assert metrics["latent_size"] == {"unet": 3 * 16 * 16, "mlp": 8, "dit": 2 * 4 * 4}[denoiser]
    assert (metrics["kl"] is None) == (denoiser != "dit")
    assert np.isfinite([metrics[name] for name in ("mse", "psnr", "ssim", "test_loss")]).all()
    losses = [small_run.metrics("denoiser")[name] for name in ("train_loss", "val_loss", "test_loss")]
    assert np.isfinite(losses).all()
    assert load_checkpoint(small_run.folder / DENOISER, kind="denoiser", made_by="train_denoiser").name == denoiser
    for name in ("reconstructions", "interpolations", "latents"):
        assert (small_run.folder / "fig" / "autoencoder" / f"{name}.png").is_file()
    drawn = {path.name for path in (small_run.folder / "fig" / "latents").iterdir()}
    assert drawn == {"channels.png", "histograms.png"}
