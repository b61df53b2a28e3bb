import hashlib
import json
import weakref
from collections.abc import Iterator

import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.latents import cache
from latentline.latents.cache import LatentSplit, read_labels, read_latents, read_stats, write_cache

MADE_BY = "ab" * 32
ATTRIBUTES = (
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=0.1, std=2.5),
    Attribute("hair", "categorical", ("black", "red")),
)


@pytest.fixture(params=[torch.float16, torch.float32])
def splits(request) -> dict[str, LatentSplit]:
    return {
        name: LatentSplit(
            (torch.randn(count, 2, 3, 4) * 3 + 1).to(request.param),
            torch.arange(count) % 3,
            torch.rand(count, 3).round(),
        )
        for name, count in {"train": 20, "val": 4, "test": 5}.items()
    }


def _write(folder, splits, **options):
    portions = {name: [split] for name, split in splits.items()}
    return write_cache(folder, portions, classes=("a", "b", "c"), attributes=ATTRIBUTES, autoencoder=MADE_BY, **options)


def test_latents_come_back_raw_in_their_own_number_format(tmp_path, splits):
    _write(tmp_path / "cache", splits)
    for name, split in splits.items():
        read = read_latents(tmp_path / "cache", name)
        assert read.latents.dtype == split.latents.dtype
        assert torch.equal(read.latents.load(), split.latents)
        assert torch.equal(read.labels, split.labels)
        assert torch.equal(read.attributes, split.attributes)
        assert torch.equal(read.values, torch.cat([split.labels[:, None].float(), split.attributes], dim=1))


def test_the_statistics_are_those_of_the_training_latents_alone(tmp_path, splits):
    stats = _write(tmp_path / "cache", splits)
    exact = splits["train"].latents.double()
    torch.testing.assert_close(stats.normalizer.mean.flatten(), exact.mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(stats.normalizer.std.flatten(), exact.std(dim=(0, 2, 3)).float())
    splits["test"].latents.add_(100)
    assert torch.equal(_write(tmp_path / "cache", splits).normalizer.mean, stats.normalizer.mean)


def test_reading_the_statistics_gives_what_writing_them_gave(tmp_path, splits):
    written, read = _write(tmp_path / "cache", splits), read_stats(tmp_path / "cache" / "stats.json")
    assert (read.shape, read.classes, read.attributes, read.autoencoder) == (
        (2, 3, 4),
        ("a", "b", "c"),
        ATTRIBUTES,
        MADE_BY,
    )
    assert read.columns == (Attribute("label", "categorical", ("a", "b", "c")), *ATTRIBUTES)
    assert torch.equal(read.normalizer.mean, written.normalizer.mean)
    assert torch.equal(read.normalizer.std, written.normalizer.std)


def test_what_samples_are_drawn_for_is_what_is_known_of_the_first_training_images(tmp_path, splits, monkeypatch):
    for most, count in ((65_536, 20), (7, 7)):
        monkeypatch.setattr(cache, "_MOST_KNOWN", most)
        _write(tmp_path / "cache", splits)
        assert torch.equal(read_labels(tmp_path / "cache" / "known.safetensors"), splits["train"].values[:count])


@pytest.mark.parametrize(
    "known",
    [{}, {"labels": torch.arange(6) % 2}, {"attributes": torch.randn(6, 1)}],
    ids=["nothing", "labels", "attributes"],
)
def test_what_is_not_known_stays_unknown(tmp_path, known):
    split = LatentSplit(torch.randn(6, 1, 2, 2), known.get("labels"), known.get("attributes"))
    classes, attributes = ("a", "b") if "labels" in known else (), ATTRIBUTES[1:2] if "attributes" in known else ()
    stats = write_cache(
        tmp_path / "cache", {"train": [split]}, classes=classes, attributes=attributes, autoencoder=MADE_BY
    )
    read = read_latents(tmp_path / "cache", "train")
    assert (read.labels is None, read.attributes is None) == ("labels" not in known, "attributes" not in known)
    assert read.values.shape == (6, len(known)) == (6, len(stats.schema))
    assert read_labels(tmp_path / "cache" / "known.safetensors").shape == ((6, 1) if known else (0, 0))


def test_a_cache_of_vectors_has_one_mean_and_deviation_per_number(tmp_path):
    vectors = {
        name: LatentSplit(torch.randn(20, 6) * 3 + 1, torch.arange(20) % 3, None) for name in ("train", "val", "test")
    }
    _write(tmp_path / "cache", vectors)
    stats = read_stats(tmp_path / "cache" / "stats.json")
    assert stats.shape == (6,)
    torch.testing.assert_close(stats.normalizer.mean, vectors["train"].latents.mean(dim=0))
    torch.testing.assert_close(stats.normalizer.std, vectors["train"].latents.std(dim=0))


def _cut(split: LatentSplit, size: int) -> Iterator[LatentSplit]:
    """The split in portions."""
    for start in range(0, len(split.latents), size):
        rows = slice(start, start + size)
        yield LatentSplit(split.latents[rows], split.labels[rows], split.attributes[rows])


@pytest.mark.parametrize("per_shard", [1, 3, 20, 1000])
def test_shards_of_any_size_hold_the_same_latents(tmp_path, splits, per_shard):
    stats = _write(tmp_path / "cache", splits, shard_bytes=per_shard * splits["train"].latents[0].nbytes)
    shards = sorted(path.name for path in (tmp_path / "cache").glob("train-*"))
    assert shards == [f"train-{number:05d}.safetensors" for number in range(-(-20 // per_shard))]
    for name, split in splits.items():
        read = read_latents(tmp_path / "cache", name)
        assert torch.equal(read.latents.load(), split.latents)
        assert torch.equal(read.values, split.values)
    assert torch.equal(stats.normalizer.mean, _write(tmp_path / "other", splits).normalizer.mean)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_no_byte_depends_on_the_portions_that_the_latents_came_in(tmp_path, splits, size):
    _write(tmp_path / "one", splits, shard_bytes=200)
    portions = {name: _cut(split, size) for name, split in splits.items()}
    options = {"classes": ("a", "b", "c"), "attributes": ATTRIBUTES, "autoencoder": MADE_BY}
    write_cache(tmp_path / "other", portions, **options, shard_bytes=200)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "other").iterdir())
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
            yield LatentSplit(latents, None, None)

    write_cache(
        tmp_path / "cache", {"train": encoded()}, classes=(), attributes=(), autoencoder=MADE_BY, shard_bytes=30 * 128
    )
    assert len(held) == count // 10
    assert max(held) <= 2
    assert len(read_latents(tmp_path / "cache", "train").latents) == count


@pytest.mark.parametrize("damage", ["missing", "flipped", "of another cache"])
def test_each_shard_is_checked_against_the_record(tmp_path, splits, damage):
    for folder in ("cache", "other"):
        _write(tmp_path / folder, splits, shard_bytes=7 * splits["train"].latents[0].nbytes)
        splits["train"].latents.add_(1)
    shard = tmp_path / "cache" / "train-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content if damage == "flipped" else (tmp_path / "other" / shard.name).read_bytes())
    with pytest.raises(
        UserError, match=r"train-00001\.safetensors is .*; .*run `dvc repro encode_and_cache_latents`"
    ) as caught:
        read_latents(tmp_path / "cache", "train")
    assert "\n" not in str(caught.value)


def test_a_given_scaling_takes_the_place_of_the_measured_statistics(tmp_path, splits):
    write_cache(
        tmp_path / "cache",
        {name: [split] for name, split in splits.items()},
        classes=("a", "b", "c"),
        attributes=ATTRIBUTES,
        autoencoder=MADE_BY,
        scaling=0.5,
    )
    read = read_stats(tmp_path / "cache" / "stats.json").normalizer
    assert torch.equal(read.mean, torch.zeros(2, 1, 1))
    assert torch.equal(read.std, torch.full((2, 1, 1), 2.0))


def test_the_statistics_tell_the_digest_of_each_shard(tmp_path, splits):
    _write(tmp_path / "cache", splits)
    described = json.loads((tmp_path / "cache" / "stats.json").read_text())["splits"]
    for name, split in splits.items():
        (shard,) = described[name]["shards"].items()
        assert described[name]["count"] == len(split.labels)
        assert shard[1] == hashlib.sha256((tmp_path / "cache" / shard[0]).read_bytes()).hexdigest()


def test_writing_twice_gives_the_same_bytes(tmp_path, splits):
    for name in ("one", "other"):
        _write(tmp_path / name, splits)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_latents_of_another_autoencoder_are_refused_with_both_digests_and_the_remedy(tmp_path, splits):
    stats = _write(tmp_path / "cache", splits)
    stats.require_autoencoder(MADE_BY)
    with pytest.raises(UserError) as caught:
        stats.require_autoencoder("cd" * 32)
    for hint in (MADE_BY[:12], "cdcdcdcdcdcd", "dvc repro encode_and_cache_latents"):
        assert hint in str(caught.value)


def test_a_missing_cache_names_the_stage_that_makes_it(tmp_path):
    for read in (
        lambda: read_stats(tmp_path / "stats.json"),
        lambda: read_latents(tmp_path, "train"),
        lambda: read_labels(tmp_path / "known.safetensors"),
    ):
        with pytest.raises(UserError, match="dvc repro encode_and_cache_latents"):
            read()
