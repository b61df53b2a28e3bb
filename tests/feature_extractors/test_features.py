"""One function extracts features: the same from memory and disk, in any batches and on any number of processes."""

import logging

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute, predict
from latentline.core.shards import ShardedArray, read_rows, write_rows
from latentline.feature_extractors import features, load
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.features import extract_features
from latentline.feature_extractors.load import FeatureExtractor
from support.several import several

CPU = torch.device("cpu")
COLUMNS = (Attribute(CLASS, "categorical", ("a", "b")), Attribute("age", "continuous", mean=40.0, std=12.5))


@pytest.fixture
def network() -> ConvClassifier:
    """An untrained classifier of a class and a number, in training mode."""
    return ConvClassifier((1, 8, 8), outputs=3, channels=4, features=5, dropout=0.5)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)


@pytest.fixture
def on_disk(images, tmp_path) -> ShardedArray:
    """The same images in shards of two rows."""
    shards = write_rows(tmp_path, "x", [{"images": images}], {}, shard_bytes=2 * 64)["shards"]
    return read_rows([tmp_path / name for name in sorted(shards)], "images", "download")[0]


def test_features_are_those_of_the_network_in_evaluation_mode(network, images):
    found = extract_features(network, images, CPU)
    assert not network.training
    assert torch.equal(found, network.features(images / 127.5 - 1))
    assert not found.requires_grad


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_neither_the_batch_nor_the_disk_matters(network, images, on_disk, batch, monkeypatch):
    expected = extract_features(network, images, CPU)
    monkeypatch.setattr(features, "BATCH", batch)
    torch.testing.assert_close(extract_features(network, images, CPU), expected)
    assert torch.equal(extract_features(network, on_disk, CPU), extract_features(network, images, CPU))


def test_processes_that_share_the_images_have_the_features_that_one_computes(network, images):
    expected = extract_features(network, images, CPU)
    for found in several(3, lambda ranks: extract_features(network, images, CPU, ranks)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("progress", [True, False])
def test_a_log_says_how_far_it_is_if_asked_for(network, images, progress, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("latentline.core.progress._LOG_SECONDS", -1.0)
    monkeypatch.setattr(features, "BATCH", 3)
    extract_features(network, images, CPU, progress=progress)
    lines = [message.split(",")[0] for message in caplog.messages]
    assert lines == (["batches for the features: 1 of 3", "batches for the features: 2 of 3"] if progress else [])


@pytest.mark.parametrize("batch", [2, 100])
def test_the_feature_extractor_predicts_labels_from_its_features(network, images, on_disk, batch, monkeypatch):
    monkeypatch.setattr(features, "BATCH", batch)
    monkeypatch.setattr(load, "BATCH", batch)
    found, labels = FeatureExtractor(network.eval(), CPU, "classifier", COLUMNS).extract(on_disk)
    torch.testing.assert_close(found, network.features(images / 127.5 - 1))
    torch.testing.assert_close(labels, predict(COLUMNS, network.head(found)))
    assert labels.shape == (7, 2)


def test_without_labels_there_are_features_alone(images):
    network = ConvClassifier((1, 8, 8), outputs=0, channels=4, features=5, dropout=0.5).eval()
    found, labels = FeatureExtractor(network, CPU, "classifier", ()).extract(images)
    assert (found.shape, labels.shape) == ((7, 5), (7, 0))
