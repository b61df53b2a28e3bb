"""Detection scores of each class against all others: scikit-learn's."""

import pytest
import torch
from sklearn.metrics import classification_report, roc_auc_score

from latentline.core.attributes import Attribute
from stages.train_latent_classifiers import detection as detection_module
from stages.train_latent_classifiers.detection import detection

CLASSES = Attribute("label", "categorical", ("cat", "dog", "owl"))


def test_scores_by_class_and_their_means_are_scikit_learns():
    truth = torch.randint(0, 3, (400,)).float()
    probability = (torch.randn(400, 3) + torch.nn.functional.one_hot(truth.long(), 3)).softmax(dim=1)
    predicted = probability.argmax(dim=1).float()
    scores = detection(CLASSES, probability, predicted, truth)
    report = classification_report(truth, predicted, target_names=CLASSES.classes, output_dict=True)
    for ours, theirs in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
        assert scores[ours] == pytest.approx(report["macro avg"][theirs])
        assert [scores["by_class"][name][ours] for name in CLASSES.classes] == pytest.approx(
            [report[name][theirs] for name in CLASSES.classes]
        )
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth, probability, multi_class="ovr"))


def test_a_binary_attribute_is_scored_on_its_ones_alone():
    truth, predicted = torch.tensor([1.0, 1, 1, 0, 0]), torch.tensor([1.0, 0, 0, 0, 0])
    chance = torch.tensor([0.9, 0.4, 0.3, 0.2, 0.1])
    scores = detection(Attribute("smiling", "binary"), torch.stack([1 - chance, chance], dim=1), predicted, truth)
    assert scores == {"auroc": 1.0, "precision": 1.0, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.5)}


def test_classes_without_an_image_or_with_all_of_them_are_left_out():
    truth = torch.tensor([0.0, 0, 1, 1])
    scores = detection(CLASSES, torch.eye(3)[truth.long()], truth, truth)
    assert scores["by_class"].keys() == {"cat", "dog"}
    assert scores["f1"] == 1
    assert detection(CLASSES, torch.eye(3)[[0, 0]], truth[:2], truth[:2]) == {}


def test_of_very_many_classes_the_most_frequent_ones_are_scored(monkeypatch, caplog):
    assert detection_module._MAX_SCORED == 1000
    monkeypatch.setattr(detection_module, "_MAX_SCORED", 10)  # a thousand take seconds
    caplog.set_level("INFO")
    many = Attribute("label", "categorical", tuple(f"c{index}" for index in range(15)))
    truth = torch.cat([torch.arange(15), torch.arange(5, 15)]).float()
    scores = detection(many, torch.rand(len(truth), 15), truth, truth)
    assert list(scores["by_class"]) == list(many.classes[5:])
    assert scores["classes_scored"] == 10
    assert "10 of 15 classes are scored" in caplog.text
