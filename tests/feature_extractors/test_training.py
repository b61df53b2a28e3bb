"""Settings of a training survive the checkpoint, and predicted labels are those of the network's head."""

import json

import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.feature_extractors import build
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.training import ClassifierTraining, predict_labels, train_classifier
from latentline.runtime.resume import ResumeFile
from latentline.training.loop import Saving
from latentline.training.params import OptimizerParams
from support.small_kinds import TinyEfficientNet


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


@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "with gaps"])
def test_the_loss_of_a_batch_is_the_mean_over_its_values_whatever_the_micro_batches(workplace, monkeypatch, gaps):
    monkeypatch.setattr(build, "EfficientNetLite0", TinyEfficientNet)
    monkeypatch.setattr(build, "FEATURES", TinyEfficientNet.FEATURES)
    columns = (Attribute("hair", "categorical", ("black", "red", "none")), Attribute("age", "continuous"))
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    values = torch.stack([torch.randint(0, 3, (12,)).float(), torch.randn(12)], dim=1)
    if gaps:
        values[torch.rand(12, 2) < 0.5] = torch.nan
    losses, heads = [], []
    for accumulate in (1, 4):
        torch.manual_seed(3)
        network = build.PretrainedExtractor(4)
        with torch.no_grad():
            logits = network.head(network.features(images / 127.5 - 1)).split([3, 1], dim=1)
        optimizer = OptimizerParams(batch_size=12, lr=0.1, accumulate=accumulate)
        history = train_classifier(
            network,
            columns,
            images,
            values,
            ClassifierTraining(2, 0.05, optimizer),
            device=torch.device("cpu"),
            seed=0,
            name="x",
            saving=Saving(ResumeFile("x", {"accumulate": accumulate}, ()), 1e9),
        )
        losses.append([row["loss"] for row in history])
        heads.append(network.head.weight.detach())
    parts = [column.loss(*part, 0.05) for column, *part in zip(columns, logits, values.T, strict=True)]
    assert losses[0][0] == pytest.approx(float(sum(parts)) / 2)
    assert losses[0] == pytest.approx(losses[1])
    torch.testing.assert_close(heads[0], heads[1])
