"""Features of every image set: the same whatever the chunks, continued after a kill, and no set whole in memory."""

from types import SimpleNamespace

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.interrupt import InterruptedRunError
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.load import FeatureExtractor
from latentline.latents.normalizer import Normalizer
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from stages.evaluate import features
from stages.evaluate.features import Extracted, ImageSet, extract, image_sets

SHAPE = (1, 8, 8)


@pytest.fixture
def extractor() -> FeatureExtractor:
    """An untrained classifier of two classes."""
    network = ConvClassifier(SHAPE, outputs=2, channels=4, features=5, dropout=0.5).eval()
    return FeatureExtractor(network, torch.device("cpu"), "classifier", (Attribute(CLASS, "categorical", ("a", "b")),))


def _images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)


def _state() -> ResumeFile:
    return ResumeFile("evaluate", {}, ["stages.evaluate.features"])


def _extract(sets: dict[str, ImageSet], extractor: FeatureExtractor) -> dict[str, Extracted]:
    state = _state()
    with resumable_map(state, 60.0) as chunks:
        found = extract(sets, extractor, chunks)
    state.finish()
    return found


@pytest.mark.parametrize("batch", [1, 4, 500])
def test_features_and_labels_are_those_of_each_set_whatever_the_chunks(workplace, extractor, monkeypatch, batch):
    images = {"samples": _images(9), "train": _images(4)}
    largest = []

    def reader(name):
        def read(rows):
            largest.append(rows.stop - rows.start)
            return images[name][rows]

        return read

    monkeypatch.setattr(features, "_BATCH", batch)
    found = _extract({name: ImageSet(len(part), reader(name)) for name, part in images.items()}, extractor)
    assert list(found) == ["samples", "train"]
    assert max(largest) == min(batch, 9)
    for name, part in images.items():
        expected, labels = extractor.extract(part)
        torch.testing.assert_close(found[name].features, expected)
        assert torch.equal(found[name].labels, labels)


def test_a_killed_extraction_continues(workplace, extractor, monkeypatch):
    images, made = _images(6), []

    def read(rows):
        if len(made) == 2:
            raise InterruptedRunError
        made.append(rows.start)
        return images[rows]

    monkeypatch.setattr(features, "_BATCH", 2)
    sets = {"samples": ImageSet(6, read)}
    with pytest.raises(InterruptedRunError), resumable_map(_state(), 0.0) as chunks:
        extract(sets, extractor, chunks)
    sets = {"samples": ImageSet(6, lambda rows: (made.append(rows.start), images[rows])[1])}
    found = _extract(sets, extractor)
    assert made == [0, 2, 4]
    torch.testing.assert_close(found["samples"].features, extractor.extract(images)[0])


def test_references_are_decoded_latents_and_decoded_noise_on_the_scale_of_the_latents():
    latents = torch.randn(5, 2, 3, 3)
    decoded = []

    def decode(z, first):
        decoded.append((z, first))
        return _images(len(z))

    stats = SimpleNamespace(shape=(2, 3, 3), normalizer=Normalizer.constant(0.5, (2, 3, 3)))
    autoencoder = SimpleNamespace(decode=decode)
    train, samples, test = _images(8), _images(4), _images(5)
    sets = image_sets(train, samples, test, latents, autoencoder, stats, seed=0)
    assert {name: images.count for name, images in sets.items()} == {
        "train": 8,
        "samples": 4,
        "real_test": 5,
        "reconstructions": 5,
        "decoded_noise": 4,
    }
    for name, images in (("train", train), ("samples", samples), ("real_test", test)):
        assert torch.equal(sets[name].read(slice(1, 3)), images[1:3])
    sets["reconstructions"].read(slice(2, 4))
    sets["decoded_noise"].read(slice(1, 4))
    sets["decoded_noise"].read(slice(1, 2))
    (z, first), (noise, noise_first), (again, _) = decoded
    assert torch.equal(z, latents[2:4])
    assert (first, noise_first) == (2, 1)
    assert 1 < noise.std() < 3  # standard deviation 1 / 0.5
    assert torch.equal(again, noise[:1])
