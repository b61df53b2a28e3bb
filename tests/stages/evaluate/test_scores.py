"""Every score stands beside its reference; conditions that samples lack are not scored."""

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.labels import LabelTable
from latentline.tools.params_file import read_recipe
from stages.evaluate import distances, scores
from stages.evaluate.params import EvaluateParams
from stages.evaluate.scores import agreement_scores, distance_scores

CPU = torch.device("cpu")
SCHEMA = (
    Attribute(CLASS, "categorical", ("a", "b")),
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=40.0, std=12.5),
)


@pytest.fixture
def params(root) -> EvaluateParams:
    """Settings for pairs of 20 images."""
    return EvaluateParams(**{**read_recipe("default", root)["evaluate"], "neighbours": 3, "pair_count": 20})


def test_distances_of_samples_stand_beside_those_of_references(params):
    train = torch.randn(60, 4)
    shifts = {"samples": 3.0, "real_test": 0.0, "reconstructions": 0.2, "decoded_noise": 9.0}
    features = {"train": train, **{name: torch.randn(40, 4) + shift for name, shift in shifts.items()}}
    metrics, neighbours = distance_scores(params, 0, features, CPU)
    assert metrics["fd_real_test"] < metrics["fd"] < metrics["fd_of_decoded_noise"]
    assert metrics["fd_reconstruction"] < metrics["fd_of_decoded_noise"]
    assert metrics["fd_real_test"] == metrics["fd_floor_real_test"]
    assert metrics["kd_real_test"] == metrics["kd_floor_real_test"] < metrics["kd"]
    ratio = metrics["nearest_train_distance"] / metrics["nearest_train_distance_of_real_test"]
    assert metrics["nearest_train_distance_ratio"] == ratio
    for score in ("precision", "recall", "density", "coverage"):
        assert metrics[score] <= metrics[f"{score}_of_real_test"]
    assert torch.equal(neighbours, torch.cdist(features["samples"][:20], train).argmin(dim=1))
    assert distance_scores(params, 0, features, torch.device("mps"))[0] == metrics  # which has no float64


def test_statistics_of_the_training_images_are_computed_once(params, monkeypatch):
    fitted: list[int] = []
    fit = scores.fit_gaussian

    def counting(features: torch.Tensor, device: torch.device) -> distances.Gaussian:
        fitted.append(len(features))
        return fit(features, device)

    monkeypatch.setattr(scores, "fit_gaussian", counting)
    sets = {"train": 60, "samples": 40, "real_test": 41, "reconstructions": 42, "decoded_noise": 43}
    distance_scores(params, 0, {name: torch.randn(count, 4) for name, count in sets.items()}, CPU)
    assert sorted(fitted) == [40, 41, 42, 43, 60]


def test_samples_that_repeat_training_images_have_distance_0(params):
    train = 3 * torch.randn(30, 8)
    sets = dict.fromkeys(("samples", "reconstructions", "decoded_noise"), train[:10])
    metrics, neighbours = distance_scores(params, 0, {"train": train, **sets, "real_test": torch.randn(10, 8)}, CPU)
    assert metrics["nearest_train_distance_ratio"] < 1e-4
    assert neighbours.tolist() == list(range(10))


def test_predicted_labels_are_compared_with_the_conditions_that_samples_have():
    real = LabelTable(SCHEMA, torch.tensor([[0.0, 1.0, 30.0], [1.0, 0.0, 50.0], [1.0, 1.0, 40.0], [0.0, 0.0, 20.0]]))
    samples = LabelTable(SCHEMA[:2], torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    predicted = {
        "samples": torch.tensor([[0.0, 1.0, 30.0], [0.0, 1.0, 30.0]]),
        "real_test": real.values.clone(),
        "reconstructions": real.values[:3].clone(),
    }
    predicted["real_test"][0, 1] = 0
    predicted["reconstructions"][:2, 0] = 1
    labels = {"samples": samples, "real_test": real, "reconstructions": real[:3]}
    assert agreement_scores(SCHEMA, predicted, labels) == {
        "class_accuracy": 0.5,
        "class_accuracy_of_real_test": 1.0,
        "class_accuracy_of_reconstructions": pytest.approx(2 / 3),
        "by_attribute": {"smiling": {"samples": 1.0, "real_test": 0.75, "reconstructions": 1.0}},
    }


def test_values_that_are_missing_are_not_scored_and_a_score_of_none_has_its_reason():
    real = LabelTable(SCHEMA, torch.tensor([[0.0, torch.nan, 30.0], [1.0, 1.0, 50.0], [1.0, 0.0, 40.0]]))
    samples = LabelTable(SCHEMA, torch.tensor([[0.0, torch.nan, torch.nan], [1.0, torch.nan, 40.0]]))
    predicted = {"samples": torch.tensor([[0.0, 1.0, 30.0], [1.0, 1.0, 40.0]]), "real_test": real.values.nan_to_num(7)}
    predicted["real_test"][1, 1] = 0
    assert agreement_scores(SCHEMA, predicted, {"samples": samples, "real_test": real})["by_attribute"] == {
        "smiling": {"samples": None, "real_test": 0.5, "not_computed": {"samples": "no image has a value"}},
        "age": {"samples": 1.0, "real_test": 1.0},
    }
