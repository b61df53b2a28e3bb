"""Samples on disk: written as they are drawn, read when they are used, with the labels they are conditioned on."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.data.samples import read_samples, write_samples

SHAPE = (3, 4, 5)
PIXELS = 3 * 4 * 5
SCHEMA = build_schema(("a", "b", "c"), (Attribute("smiling", "binary"), Attribute("age", "continuous")))
CONDITIONED_ON = [("label", "smiling", "age"), ("label", "age"), ("label",), ("smiling",), ()]


def _images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)


def _labels(count: int, names: tuple[str, ...] = ("label",)) -> LabelTable:
    values = torch.stack([torch.arange(count) % 3.0, torch.rand(count).round(), torch.randn(count)], dim=1)
    return LabelTable(SCHEMA, values).select(names)


def _write(
    root: Path, images: torch.Tensor, batch: int = 7, per_shard: int = 9, names: tuple[str, ...] = ("label",)
) -> LabelTable:
    labels = _labels(len(images), names)
    write_samples(root, images.split(batch), labels, "its digest", per_shard * PIXELS)
    return labels


@pytest.mark.parametrize("names", CONDITIONED_ON, ids=" ".join)
def test_samples_come_back_with_the_labels_that_they_are_conditioned_on_and_no_other(tmp_path, names):
    images = _images(40)
    labels = _write(tmp_path / "generated", images, names=names)
    samples = read_samples(tmp_path / "generated", "its digest")
    assert torch.equal(samples.images.to_memory(), images)
    assert tuple(samples.labels.names) == names
    assert samples.labels.schema == labels.schema
    assert torch.equal(samples.labels.values, labels.values)
    assert (samples.labels.classes is None) == ("label" not in names)
    assert "label" not in names or samples.labels.classes.tolist() == [row % 3 for row in range(40)]


def test_bytes_depend_on_the_shards_size_alone_and_images_on_nothing(tmp_path):
    images = _images(40)
    for name, batch, per_shard in (("one", 7, 9), ("other", 40, 9), ("single", 3, 100)):
        torch.manual_seed(1)
        _write(tmp_path / name, images, batch, per_shard)
        assert torch.equal(read_samples(tmp_path / name, "its digest").images.to_memory(), images)
    names = [f"samples-{number:05d}.safetensors" for number in range(5)]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)
    assert [path.name for path in (tmp_path / "single").iterdir()] == names[:1]


@pytest.mark.parametrize("count", [100, 1000])
def test_no_more_is_held_than_a_shard_and_a_batch_whatever_the_count(tmp_path, count):
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    waiting, held = [], []

    def drawn() -> Iterator[torch.Tensor]:
        for start in range(0, count, 10):
            waiting.append(start - 30 * len(list(tmp_path.glob("*/samples-*.safetensors"))))
            images = _images(10)
            alive.add(images)
            held.append(len(alive))
            yield images

    write_samples(tmp_path / "generated", drawn(), _labels(count, ()), "its digest", 30 * PIXELS)
    assert max(waiting) < 30  # images drawn and not yet on disk, whenever the next are asked for
    assert max(held) <= 2
    gc.collect()
    assert not alive
    assert len(read_samples(tmp_path / "generated", "its digest")) == count


def test_a_drawing_that_fails_leaves_the_samples_of_before(tmp_path):
    images = _images(20)
    _write(tmp_path / "generated", images)

    def failing() -> Iterator[torch.Tensor]:
        yield _images(15)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path / "generated", failing(), _labels(30, ()), "another digest", 9 * PIXELS)
    assert torch.equal(read_samples(tmp_path / "generated", "its digest").images.to_memory(), images)
    assert [path.name for path in tmp_path.iterdir()] == ["generated"]


def test_samples_that_are_missing_incomplete_or_of_another_autoencoder_are_refused_with_the_remedy(tmp_path):
    root = tmp_path / "generated"
    with pytest.raises(UserError, match=r"samples-00000\.safetensors is missing; run `dvc repro sample`"):
        read_samples(root, "its digest")
    _write(root, _images(40))
    with pytest.raises(
        UserError, match=r"generated \(decoded by another autoencoder\) must be .*; run `dvc repro sample`"
    ):
        read_samples(root, "another digest")
    (root / "samples-00004.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"\(36 samples, a shard is missing\) must hold 40 samples; run `dvc repro sample`"
    ):
        read_samples(root, "its digest")
