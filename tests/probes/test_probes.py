"""Probes against scikit-learn: the same probabilities and the same choice of C."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.multiclass import OneVsRestClassifier

from latentline.core.attributes import Attribute
from latentline.probes.probes import CANDIDATES, Probe, choose_probe, fit_probe, pooling, probabilities

CLASSES = Attribute("label", "categorical", ("cat", "dog", "owl"))
AGE = Attribute("age", "continuous", mean=40.0, std=12.5)


def _classes(count: int, num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, 8) and noisy classes that are the largest of ``num_classes`` of them."""
    features = torch.randn(count, 8)
    return features, (features[:, :num_classes] + torch.randn(count, num_classes)).argmax(dim=1).float()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_model_per_class_gives_scikit_learns_probabilities(num_classes):
    attribute = Attribute("label", "categorical", CLASSES.classes[:num_classes])
    features, values = _classes(300, num_classes)
    probe = fit_probe(attribute, features, values, "one_vs_rest", 0.1, 200)
    expected = (
        OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=200)).fit(features, values).predict_proba(features)
    )
    ours = probabilities(attribute, probe(features), "one_vs_rest")
    torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-3, rtol=0, check_dtype=False)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_model_of_all_classes_gives_scikit_learns_probabilities(num_classes):
    attribute = Attribute("label", "categorical", CLASSES.classes[:num_classes])
    features, values = _classes(300, num_classes)
    probe = fit_probe(attribute, features, values, "multinomial", 0.1, 200)
    expected = LogisticRegression(C=0.1, max_iter=200).fit(features, values).predict_proba(features)
    ours = probabilities(attribute, probe(features), "multinomial")
    torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-3, rtol=0, check_dtype=False)


@pytest.mark.parametrize("logistic", ["multinomial", "one_vs_rest"])
def test_a_binary_attribute_has_one_logit_with_either_kind_of_model(logistic):
    features, values = _classes(300, 2)
    attribute = Attribute("smiling", "binary")
    probe = fit_probe(attribute, features, values, logistic, 0.1, 200)
    expected = LogisticRegression(C=0.1, max_iter=200).fit(features, values).predict_proba(features)
    torch.testing.assert_close(
        probabilities(attribute, probe(features), logistic),
        torch.from_numpy(expected),
        atol=1e-3,
        rtol=0,
        check_dtype=False,
    )


@pytest.mark.parametrize("logistic", ["multinomial", "one_vs_rest"])
def test_a_class_without_a_training_image_has_no_probability(logistic):
    features, values = _classes(100, 2)
    probe = fit_probe(CLASSES, features, values * 2, logistic, 0.1, 200)
    assert probabilities(CLASSES, probe(features), logistic)[:, 1].max() < 1e-12


@pytest.mark.parametrize(
    ("attribute", "model", "grid", "scoring"),
    [
        (CLASSES, LogisticRegression(max_iter=200), {"C": CANDIDATES}, "neg_log_loss"),
        (AGE, Ridge(), {"alpha": [1 / candidate for candidate in CANDIDATES]}, "neg_mean_squared_error"),
    ],
    ids=["logistic", "ridge"],
)
def test_the_regularisation_is_the_choice_of_scikit_learns_search_on_the_same_split(attribute, model, grid, scoring):
    (features, values), (held_out, truth) = _classes(60), _classes(200)
    if attribute is AGE:
        values, truth = 40 + 5 * values, 40 + 5 * truth
    probe, candidate = choose_probe(attribute, (features, values), (held_out, truth), "multinomial", 200)
    folds = PredefinedSplit(np.repeat([-1, 0], [60, 200]))
    search = GridSearchCV(model, grid, scoring=scoring, cv=folds, refit=False)
    target = (torch.cat([values, truth]) - (attribute.mean if attribute is AGE else 0)) / (
        attribute.std if attribute is AGE else 1
    )
    search.fit(torch.cat([features, held_out]).numpy(), target.numpy())
    (best,) = search.best_params_.values()
    assert candidate == pytest.approx(best if attribute is CLASSES else 1 / best)
    assert torch.equal(probe.weight, fit_probe(attribute, features, values, "multinomial", candidate, 200).weight)


def test_choosing_warns_of_nothing_where_a_solver_stops_early():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_probe(CLASSES, _classes(60), _classes(20), "multinomial", 1)


def test_pooled_features_are_each_channels_standardised_mean():
    maps = torch.randn(50, 3, 4, 5) * torch.tensor([1.0, 2.0, 0.0]).reshape(3, 1, 1)
    pooled = maps.flatten(1) @ pooling(maps)
    means = maps.mean(dim=(2, 3))
    torch.testing.assert_close(pooled[:, :2], means[:, :2] / means[:, :2].std(dim=0), atol=1e-4, rtol=1e-4)
    assert not pooled[:, 2].any()  # a channel without contrast


def test_a_probe_of_pooled_features_is_the_same_probe_of_the_flat_latent():
    maps, matrix = torch.randn(50, 3, 4, 5), pooling(torch.randn(50, 3, 4, 5))
    probe = Probe(torch.randn(2, 3), torch.randn(2))
    torch.testing.assert_close(
        Probe(probe.weight @ matrix.T, probe.bias)(maps.flatten(1)),
        probe(maps.flatten(1) @ matrix),
        atol=1e-5,
        rtol=1e-4,
    )


def test_pooling_leaves_vectors_in_their_places():
    vectors = torch.randn(40, 6) * 3
    torch.testing.assert_close(vectors @ pooling(vectors), vectors / vectors.std(dim=0))
