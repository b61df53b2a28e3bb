"""Settings of a training survive the checkpoint, and predicted labels are those of the network's head."""

import json

import torch

from latentline.core.attributes import Attribute
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.training import ClassifierTraining, predict_labels
from latentline.training.params import OptimizerParams


def test_the_settings_of_a_training_read_back_from_json():
    training = ClassifierTraining(3, 0.05, OptimizerParams(batch_size=128, lr=2e-3, decay_fraction=0.7))
    assert ClassifierTraining.from_json(json.loads(json.dumps(training.to_json()))) == training


def test_predicted_labels_are_those_of_the_logits():
    network = ConvClassifier((1, 8, 8), outputs=4, channels=4, features=5, dropout=0.5)
    images = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    columns = (Attribute("hair", "categorical", ("black", "red", "none")), Attribute("smiling", "binary"))
    found = predict_labels(network, images, columns, torch.device("cpu"))
    logits = network(images / 127.5 - 1)
    assert torch.equal(found, torch.stack([logits[:, :3].argmax(dim=1), logits[:, 3] > 0], dim=1).float())


def test_predicted_labels_do_not_depend_on_how_many_logits_fit_into_memory(monkeypatch):
    network = ConvClassifier((1, 8, 8), outputs=3, channels=4, features=5, dropout=0.5)
    images = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    columns = (Attribute("hair", "categorical", ("black", "red", "none")),)
    whole = predict_labels(network, images, columns, torch.device("cpu"))
    monkeypatch.setattr("latentline.feature_extractors.training._MAX_LOGITS", 7)
    assert torch.equal(predict_labels(network, images, columns, torch.device("cpu")), whole)
