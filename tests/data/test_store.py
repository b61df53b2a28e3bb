import hashlib
import json

import numpy as np
import pytest
import torch

from latentline.common.errors import UserError
from latentline.data import store
from latentline.data.source import Card, SourceSplit
from latentline.data.store import read_card, read_split, to_uint8, to_unit_range, write_store

CARD = Card(name="made up", classes=("a", "b"), licence="CC0", source="here", citation="none")


@pytest.fixture
def splits() -> dict[str, SourceSplit]:
    random = np.random.default_rng(0)
    return {
        name: SourceSplit(random.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8), random.integers(0, 2, count))
        for name, count in {"train": 11, "val": 3, "test": 4}.items()
    }


def _contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_images_and_labels_come_back_as_they_were(tmp_path, splits):
    write_store(tmp_path / "store", CARD, splits)
    for name, split in splits.items():
        read = read_split(tmp_path / "store", name)
        assert len(read) == len(split.labels)
        assert read.images.dtype == torch.uint8
        assert np.array_equal(read.images.numpy(), split.images)
        assert np.array_equal(read.labels.numpy(), split.labels)


def test_the_card_tells_classes_shape_counts_and_the_digest_of_each_shard(tmp_path, splits):
    write_store(tmp_path / "store", CARD, splits)
    card = read_card(tmp_path / "store")
    assert card.classes == CARD.classes
    assert card.shape == (3, 4, 5)
    assert card.counts == {"train": 11, "val": 3, "test": 4}
    assert card.sha256 == {
        name: hashlib.sha256(content).hexdigest() for name, content in _contents(tmp_path / "store").items() if name != "card.json"
    }
    assert json.loads((tmp_path / "store" / "card.json").read_text())["licence"] == "CC0"


def test_many_shards_hold_what_one_does(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(store, "_SHARD_BYTES", 3 * 4 * 5 * 2)  # two images each
    write_store(tmp_path / "store", CARD, splits)
    assert sum(name.startswith("train-") for name in _contents(tmp_path / "store")) == 6
    for name, split in splits.items():
        read = read_split(tmp_path / "store", name)
        assert np.array_equal(read.images.numpy(), split.images)
        assert np.array_equal(read.labels.numpy(), split.labels)


def test_writing_twice_gives_the_same_bytes(tmp_path, splits):
    for name in ("one", "other"):
        write_store(tmp_path / name, CARD, splits)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "other")


def test_a_missing_store_or_shard_names_the_stage_that_makes_it(tmp_path, splits):
    with pytest.raises(UserError, match="dvc repro download"):
        read_split(tmp_path / "store", "train")
    write_store(tmp_path / "store", CARD, splits)
    (tmp_path / "store" / "val-00000.safetensors").unlink()
    with pytest.raises(UserError, match="dvc repro download"):
        read_split(tmp_path / "store", "val")


def test_all_256_levels_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    scaled = to_unit_range(levels)
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(to_uint8(scaled), levels)


def test_floats_beyond_the_range_are_clamped_and_others_go_to_the_nearest_level():
    assert to_uint8(torch.tensor([-7.0, -1.0, 1.0, 7.0])).tolist() == [0, 0, 255, 255]
    levels = torch.arange(256).double()
    assert torch.equal(to_uint8(((levels + 0.4) / 127.5 - 1).float()), torch.arange(256, dtype=torch.uint8))


def test_scaling_leaves_the_stored_images_alone(tmp_path, splits):
    write_store(tmp_path / "store", CARD, splits)
    split = read_split(tmp_path / "store", "train")
    batches = list(split.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    assert torch.equal(to_uint8(torch.cat([images for images, _ in batches])), split.images)
    assert np.array_equal(split.images.numpy(), splits["train"].images)
