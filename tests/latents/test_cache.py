"""The latent cache: raw latents and their labels come back, and no byte depends on how they came in."""

import hashlib
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, Schema, build_schema
from latentline.core.paths import LATENT_SHARDS, LATENT_STATS
from latentline.latents import cache
from latentline.latents.cache import LatentSplit, read_labels, read_latents, read_stats, write_cache

MADE_BY = "ab" * 32
ATTRIBUTES = (
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=0.1, std=2.5),
    Attribute("hair", "categorical", ("black", "red")),
)
SCHEMA = build_schema(("a", "b", "c"), ATTRIBUTES)


def _labels(count: int, schema: Schema = SCHEMA) -> LabelTable:
    values = torch.stack([torch.arange(count) % 3.0, *torch.rand(3, count).round()], dim=1)
    return LabelTable(SCHEMA, values).select([attribute.name for attribute in schema])


@pytest.fixture(params=[torch.float16, torch.float32])
def splits(request) -> dict[str, LatentSplit]:
    return {
        name: LatentSplit(
            (torch.randn(count, 2, 3, 4) * 3 + 1).to(request.param),
            _labels(count),
        )
        for name, count in {"train": 20, "val": 4, "test": 5}.items()
    }


def _write(folder, splits, **options):
    portions = {name: [split] for name, split in splits.items()}
    return write_cache(folder, portions, schema=SCHEMA, autoencoder=MADE_BY, **options)


def _same(one: LabelTable, other: LabelTable) -> bool:
    return one.schema == other.schema and torch.equal(one.values, other.values)


def test_latents_come_back_raw_in_their_own_number_format(tmp_path, splits):
    _write(tmp_path / "cache", splits)
    for name, split in splits.items():
        read = read_latents(name, tmp_path / "cache")
        assert read.latents.dtype == split.latents.dtype
        assert torch.equal(read.latents.to_memory(), split.latents)
        assert _same(read.labels, split.labels)


def test_the_statistics_are_those_of_the_training_latents_alone(tmp_path, splits):
    stats = _write(tmp_path / "cache", splits)
    exact = splits["train"].latents.double()
    torch.testing.assert_close(stats.normalizer.mean.flatten(), exact.mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(stats.normalizer.std.flatten(), exact.std(dim=(0, 2, 3)).float())
    splits["test"].latents.add_(100)
    assert torch.equal(_write(tmp_path / "cache", splits).normalizer.mean, stats.normalizer.mean)


def test_reading_the_statistics_gives_what_writing_them_gave(tmp_path, splits):
    written, read = _write(tmp_path / "cache", splits), read_stats(tmp_path / "cache")
    assert (read.shape, read.classes, read.autoencoder) == ((2, 3, 4), ("a", "b", "c"), MADE_BY)
    assert read.schema == (Attribute("label", "categorical", ("a", "b", "c")), *ATTRIBUTES)
    assert torch.equal(read.normalizer.mean, written.normalizer.mean)
    assert torch.equal(read.normalizer.std, written.normalizer.std)


def test_samples_are_conditioned_on_the_labels_of_the_first_training_images(tmp_path, splits, monkeypatch):
    for most, count in ((65_536, 20), (7, 7)):
        monkeypatch.setattr(cache, "_MAX_LABELS", most)
        _write(tmp_path / "cache", splits)
        assert _same(read_labels(SCHEMA, tmp_path / "cache"), splits["train"].labels[:count])


@pytest.mark.parametrize(
    "schema", [(), SCHEMA[:1], ATTRIBUTES[1:2], SCHEMA[::2]], ids=["nothing", "class", "attribute", "both"]
)
def test_labels_have_the_columns_of_the_schema_and_no_other(tmp_path, schema):
    split = LatentSplit(torch.randn(6, 1, 2, 2), _labels(6, schema))
    stats = write_cache(tmp_path / "cache", {"train": [split]}, schema=schema, autoencoder=MADE_BY)
    read = read_latents("train", tmp_path / "cache")
    assert stats.schema == read.labels.schema == schema
    assert read.labels.values.shape == (6, len(schema))
    assert _same(read.labels, split.labels)
    assert _same(read_labels(schema, tmp_path / "cache"), split.labels)


def test_a_cache_of_vectors_has_one_mean_and_deviation_per_number(tmp_path):
    vectors = {name: LatentSplit(torch.randn(20, 6) * 3 + 1, _labels(20)) for name in ("train", "val", "test")}
    _write(tmp_path / "cache", vectors)
    stats = read_stats(tmp_path / "cache")
    assert stats.shape == (6,)
    torch.testing.assert_close(stats.normalizer.mean, vectors["train"].latents.mean(dim=0))
    torch.testing.assert_close(stats.normalizer.std, vectors["train"].latents.std(dim=0))


def _cut(split: LatentSplit, size: int) -> Iterator[LatentSplit]:
    """Yield the split in portions."""
    for start in range(0, len(split.latents), size):
        rows = slice(start, start + size)
        yield LatentSplit(split.latents[rows], split.labels[rows])


@pytest.mark.parametrize("per_shard", [1, 3, 20, 1000])
def test_shards_of_any_size_hold_the_same_latents(tmp_path, splits, per_shard):
    stats = _write(tmp_path / "cache", splits, shard_bytes=per_shard * splits["train"].latents[0].nbytes)
    shards = sorted(path.name for path in (tmp_path / "cache" / LATENT_SHARDS).glob("train-*"))
    assert shards == [f"train-{number:05d}.safetensors" for number in range(-(-20 // per_shard))]
    for name, split in splits.items():
        read = read_latents(name, tmp_path / "cache")
        assert torch.equal(read.latents.to_memory(), split.latents)
        assert _same(read.labels, split.labels)
    assert torch.equal(stats.normalizer.mean, _write(tmp_path / "other", splits).normalizer.mean)


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_no_byte_depends_on_the_portions_that_the_latents_came_in(tmp_path, splits, size):
    _write(tmp_path / "one", splits, shard_bytes=200)
    portions = {name: _cut(split, size) for name, split in splits.items()}
    write_cache(tmp_path / "other", portions, schema=SCHEMA, autoencoder=MADE_BY, shard_bytes=200)
    names = _files(tmp_path / "one")
    assert len(names) > 5
    assert names == _files(tmp_path / "other")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("count", [100, 1000])
def test_no_more_is_held_than_a_shard_and_a_portion_whatever_the_count(tmp_path, count):
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    held = []

    def encoded() -> Iterator[LatentSplit]:
        for _ in range(count // 10):
            latents = torch.randn(10, 2, 4, 4)
            alive.add(latents)
            held.append(len(alive))
            yield LatentSplit(latents, _labels(10, ()))

    write_cache(tmp_path / "cache", {"train": encoded()}, schema=(), autoencoder=MADE_BY, shard_bytes=30 * 128)
    assert len(held) == count // 10
    assert max(held) <= 2
    assert len(read_latents("train", tmp_path / "cache").latents) == count


@pytest.mark.parametrize("damage", ["missing", "flipped", "of another cache"])
def test_each_shard_is_checked_against_the_record(tmp_path, splits, damage):
    for folder in ("cache", "other"):
        _write(tmp_path / folder, splits, shard_bytes=7 * splits["train"].latents[0].nbytes)
        splits["train"].latents.add_(1)
    shard = tmp_path / "cache" / LATENT_SHARDS / "train-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(
            content if damage == "flipped" else (tmp_path / "other" / LATENT_SHARDS / shard.name).read_bytes()
        )
    with pytest.raises(
        UserError, match=r"train-00001\.safetensors (is|\(sha256) .*; .*run `dvc repro encode_and_cache_latents`"
    ) as caught:
        read_latents("train", tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_given_scaling_takes_the_place_of_the_measured_statistics(tmp_path, splits):
    _write(tmp_path / "cache", splits, scaling=0.5)
    read = read_stats(tmp_path / "cache").normalizer
    assert torch.equal(read.mean, torch.zeros(2, 1, 1))
    assert torch.equal(read.std, torch.full((2, 1, 1), 2.0))


def test_the_statistics_hold_the_digest_of_each_shard(tmp_path, splits):
    _write(tmp_path / "cache", splits)
    described = json.loads((tmp_path / "cache" / LATENT_STATS).read_text())["splits"]
    for name, split in splits.items():
        (shard,) = described[name]["shards"].items()
        assert described[name]["count"] == len(split.labels)
        assert shard[1] == hashlib.sha256((tmp_path / "cache" / LATENT_SHARDS / shard[0]).read_bytes()).hexdigest()


def test_writing_twice_gives_the_same_bytes(tmp_path, splits):
    for name in ("one", "other"):
        _write(tmp_path / name, splits)
    assert _files(tmp_path / "one") == _files(tmp_path / "other")
    for name in _files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_latents_of_another_autoencoder_are_refused_with_both_digests_and_the_remedy(tmp_path, splits):
    stats = _write(tmp_path / "cache", splits)
    stats.require_autoencoder(MADE_BY)
    with pytest.raises(UserError) as caught:
        stats.require_autoencoder("cd" * 32)
    for hint in (MADE_BY[:12], "cdcdcdcdcdcd", "dvc repro encode_and_cache_latents"):
        assert hint in str(caught.value)


def test_a_missing_cache_names_the_stage_that_makes_it(tmp_path):
    for read in (
        lambda: read_stats(tmp_path),
        lambda: read_latents("train", tmp_path),
        lambda: read_labels(SCHEMA, tmp_path),
    ):
        with pytest.raises(UserError, match="dvc repro encode_and_cache_latents"):
            read()
