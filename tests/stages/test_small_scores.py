"""``train_feature_extractor`` and ``evaluate`` score as their settings ask, on a tiny run."""

import re

import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.shards import ShardedArray
from support.small_kinds import with_everything, without_classes

pytestmark = pytest.mark.usefixtures("machine")


@with_everything
def test_samples_are_read_in_chunks_while_they_are_scored(small_run, small_copy, monkeypatch):
    rows_read = []
    gather = ShardedArray.__getitem__

    def watched_gather(images, rows):
        found = gather(images, rows)
        rows_read.append(len(found))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ShardedArray, "__getitem__", watched_gather)
        patch.setattr("stages.evaluate.features._BATCH", 7)
        small_copy.run("evaluate")
    assert sum(rows_read) > 40
    assert max(rows_read) == 16  # in a row of the figure
    assert small_copy.metrics("evaluate")["fd"] == pytest.approx(small_run.metrics("evaluate")["fd"], rel=1e-3)


@with_everything
def test_the_head_of_a_pretrained_feature_extractor_is_trained_where_there_are_labels(small_copy):
    params = {
        "feature_extractor.name": "efficientnet_lite0",
        "feature_extractor.epochs": 30,
        "feature_extractor.optimizer.lr": 0.05,
    }
    small_copy.run("train_feature_extractor", "evaluate", **params, **{"evaluate.max_images": 20})
    metrics = small_copy.metrics("feature_extractor")
    assert metrics["judge"] == small_copy.metrics("evaluate")["judge"] == "efficientnet_lite0"
    assert metrics["by_column"]["colour"] > metrics["by_column_of_the_best_constant"]["colour"]
    assert metrics["by_column"]["level"] > 0
    assert small_copy.metrics("evaluate")["count"] == 20


@with_everything
def test_distances_of_inception_are_named_fid_where_no_image_is_left_out(small_copy):
    torch.save({"weight": torch.ones(3)}, weights := small_copy.folder / "weights.pth")
    params = {
        "feature_extractor.name": "inception",
        "feature_extractor.path": weights.name,
        "feature_extractor.sha256": sha256_file(weights),
    }
    small_copy.run("train_feature_extractor", "evaluate", **params)
    metrics = small_copy.metrics("evaluate")
    assert metrics["judge"] == "inception"
    assert metrics["fid"] == metrics["fd"] > 0
    assert metrics["fid_real_test"] == metrics["fd_real_test"]
    small_copy.run("evaluate", **params, **{"evaluate.max_images": 20})
    metrics = small_copy.metrics("evaluate")
    assert metrics["fid"] is None
    assert metrics["not_computed"]["fid"].endswith("set evaluate.max_images to null")
    assert "fid_real_test" not in metrics


@with_everything
def test_slow_scores_stand_beside_their_references_and_change_no_other_score(small_run, small_copy):
    found, before = {}, small_run.metrics("evaluate")
    small_copy.run("evaluate", **{"evaluate.classification_accuracy_score": True})
    metrics = small_copy.metrics("evaluate")
    for score in ("classification_accuracy_score", "classification_accuracy_score_of_real_train"):
        assert 0 <= metrics.pop(score) <= 1
    assert metrics == before
    for method in ("denoising", "inversion", "likelihood"):
        params = {"evaluate.bayes.count": 9, "evaluate.bayes.steps": 2, "evaluate.bayes.method": method}
        small_copy.run("evaluate", **params)
        metrics = small_copy.metrics("evaluate")
        found[method] = metrics.pop("bayes")
        assert metrics == before
    for method, scores in found.items():
        assert (scores["method"], scores["count"]) == (method, 9)
        fractions = ("accuracy", "accuracy_of_the_judge", "accuracy_of_the_commonest_class", "standard_error")
        assert all(0 <= scores[name] <= 1 for name in fractions)
    assert (small_copy.folder / "fig" / "evaluate" / "bayes_confusion.png").stat().st_size > 0
    seconds = small_copy.metrics("timing")["evaluate"].keys()
    assert seconds >= {"bayes_seconds", "classification_accuracy_score_seconds"}
    # No run is under way; only the states that longer runs begin with are left.
    assert not list((small_copy.folder / ".state").rglob("state.safetensors"))


@without_classes
@pytest.mark.parametrize(
    ("setting", "value"), [("evaluate.bayes.count", 5), ("evaluate.classification_accuracy_score", True)]
)
def test_scores_of_classes_are_refused_in_one_line_where_there_are_none(small_copy, setting, value):
    with pytest.raises(UserError, match=rf"^{re.escape(setting)}\b.*set it to (0|false)") as caught:
        small_copy.run("evaluate", **{setting: value})
    assert len(str(caught.value).splitlines()) == 1
