"""The prepared images: written in a stream and read in batches, the same bytes whatever the batches are."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.files import write_sealed_json
from latentline.core.labels import (
    LabelTable,
    build_schema,
    read_labelled_rows,
    schema_to_json,
    write_labelled_rows,
)
from latentline.data.decode import decode, fit
from latentline.data.store import ImageSplit, read_card, read_split, to_uint8, to_unit_range
from stages.download.images import ArrayImages
from stages.download.prepare import prepare
from stages.download.scan import scan_images
from stages.download.source import Card, Source, SourceSplit
from stages.download.splits import content_keys, cut_splits
from stages.download.workers import ordered_map
from support.memory import peak_memory_mib
from support.source_files import PREPARE_OPTIONS, encoded

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (40, 3, 4, 5), dtype=np.uint8)
LABELS = random.integers(0, 2, 40)
VALUES = random.normal(size=(40, 2)).astype(np.float32)
CARD = Card(
    "made up",
    ("a", "b"),
    "CC0",
    "here",
    "none",
    (Attribute("size", "continuous"), Attribute("kind", "categorical", ("x", "y"))),
)
META = {"kind": "images"}
WHOLE = Source(CARD, {"train": SourceSplit(ArrayImages(IMAGES), LABELS, VALUES)})


SCHEMA = build_schema(CARD.classes, CARD.attributes)
TABLE = LabelTable(SCHEMA, torch.cat([torch.from_numpy(LABELS)[:, None].float(), torch.from_numpy(VALUES)], dim=1))


def _batches(sizes, table=TABLE):
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        yield torch.from_numpy(IMAGES[rows]), table[rows]
        start += size


def _write(folder, sizes=(40,), table=TABLE, series="train", meta=META):
    folder.mkdir(parents=True, exist_ok=True)
    return write_labelled_rows(folder, series, "images", _batches(sizes, table), meta, shard_bytes=60 * 7)


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [7, 20, 13], [0, 39, 0, 1]])
def test_shards_do_not_depend_on_the_batches_they_came_in(tmp_path, sizes):
    described = _write(tmp_path / "a", sizes)
    assert described["count"] == 40
    assert described == _write(tmp_path / "b")
    assert len(described["shards"]) == 6
    for name, digest in described["shards"].items():
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == digest


@pytest.fixture
def sharded(tmp_path):
    """The train split of a store of many shards."""
    card = {
        "schema": schema_to_json(SCHEMA),
        "shape": [3, 4, 5],
        "horizontal_flip": False,
        "splits": {"train": _write(tmp_path)},
    }
    write_sealed_json(tmp_path / "card.json", card)
    return read_split(tmp_path, "train")


def test_the_metadata_of_all_shards_comes_with_their_images(tmp_path):
    meta = {"kind": "samples", "for": ["size"]}
    sizes = TABLE.select(["size"])
    described = _write(tmp_path, table=sizes, series="samples", meta=meta)
    paths = [tmp_path / name for name in described["shards"]]
    images, labels, found = read_labelled_rows(paths, "images", sizes.schema, "sample")
    split = ImageSplit(images, labels)
    assert found == meta
    assert np.array_equal(split.labels.values.numpy(), VALUES[:, :1])
    (tmp_path / "samples-00003.safetensors").unlink()
    with pytest.raises(UserError, match=r"samples-00003\.safetensors is missing; run `dvc repro sample`"):
        split.images.to_memory()


def test_batches_are_the_whole_split_in_its_order(sharded):
    batches = list(sharded.batches(9))
    assert [len(images) for images in batches] == [9, 9, 9, 9, 4]
    assert np.array_equal(to_uint8(torch.cat(batches)).numpy(), IMAGES)
    assert torch.equal(sharded.labels.values, TABLE.values)
    assert sharded.labels.classes.tolist() == LABELS.tolist()


def test_labels_attributes_and_card_come_back(tmp_path):
    result = prepare(WHOLE, tmp_path / "store", PREPARE_OPTIONS)
    card = read_card(tmp_path / "store")
    train = read_split(tmp_path / "store", "train").labels
    sizes = train.column("size").double()
    size, kind = CARD.attributes
    size = replace(
        size,
        mean=pytest.approx(float(sizes.mean()), abs=1e-9),
        std=pytest.approx(float(sizes.std(correction=0)), abs=1e-9),
    )
    assert (card.schema, card.shape, card.horizontal_flip) == (
        build_schema(CARD.classes, (size, kind)),
        (3, 4, 5),
        False,
    )
    assert train.schema == card.schema
    assert card.classes == CARD.classes
    assert [attribute.name for attribute in card.schema] == ["label", "size", "kind"]
    assert card.counts == {name: split.count for name, split in result.stats.items()}
    assert sum(card.counts.values()) == 40
    by_content = {image.tobytes(): values.tolist() for image, values in zip(IMAGES, TABLE.values, strict=True)}
    for name in card.counts:
        split = read_split(tmp_path / "store", name)
        for image, values in zip(split.images.to_memory(), split.labels.values, strict=True):
            assert by_content[image.numpy().tobytes()] == values.tolist()
    assert json.loads((tmp_path / "store" / "card.json").read_text())["licence"] == "CC0"


def test_unlabelled_images_have_an_empty_table(tmp_path):
    prepare(
        Source(Card("x", (), "", "", ""), {"train": SourceSplit(ArrayImages(IMAGES))}),
        tmp_path / "store",
        PREPARE_OPTIONS,
    )
    split = read_split(tmp_path / "store", "train")
    assert split.labels.classes is None
    assert (split.labels.schema, split.labels.arrays()) == ((), {})
    assert split.labels.values.shape == (len(split), 0)
    assert read_card(tmp_path / "store").schema == ()
    assert read_card(tmp_path / "store").classes == ()


def test_mean_and_spread_are_exact(tmp_path):
    result = prepare(WHOLE, tmp_path / "store", PREPARE_OPTIONS)
    for name, split_stats in result.stats.items():
        images = read_split(tmp_path / "store", name).images.to_memory().numpy().astype(np.int64)
        assert (split_stats.total, split_stats.squares) == (images.sum(), (images**2).sum())


def test_a_failed_preparation_leaves_the_old_store_alone(tmp_path):
    prepare(WHOLE, tmp_path / "store", PREPARE_OPTIONS)
    before = (tmp_path / "store" / "card.json").read_bytes()
    with pytest.raises(UserError):
        prepare(
            Source(CARD, {"train": SourceSplit(ArrayImages(IMAGES[:2]), LABELS[:2])}),
            tmp_path / "store",
            PREPARE_OPTIONS,
        )
    assert (tmp_path / "store" / "card.json").read_bytes() == before


@pytest.mark.parametrize("name", ["train-00000.safetensors", "card.json"])
def test_a_missing_or_damaged_store_names_the_stage_that_makes_it(tmp_path, name):
    prepare(WHOLE, tmp_path / "store", PREPARE_OPTIONS)
    (tmp_path / "store" / name).write_bytes(b"other")
    with pytest.raises(UserError, match="dvc repro download"):
        read_split(tmp_path / "store", "train")
    (tmp_path / "store" / name).unlink()
    with pytest.raises(UserError, match="dvc repro download"):
        read_split(tmp_path / "store", "train")


def test_levels_survive_the_way_to_the_network_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(levels)), levels)
    assert to_unit_range(levels).aminmax() == (-1, 1)
    assert to_uint8(torch.tensor([-5.0, 5.0])).tolist() == [0, 255]


def _published(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), random.random(count)


def test_the_publishers_splits_are_kept_and_only_the_missing_ones_cut():
    shares = {"val": 0.1, "test": 0.2}
    cut = cut_splits({"train": _published(1000), "test": _published(50)}, shares)
    assert set(cut["test"].rows) == set(range(50))
    assert cut["val"].published == "train"
    assert sorted([*cut["train"].rows, *cut["val"].rows]) == list(range(1000))
    assert 70 < len(cut["val"].rows) < 130
    alone = cut_splits({"train": _published(1000)}, shares)
    assert sorted([*alone["train"].rows, *alone["val"].rows, *alone["test"].rows]) == list(range(1000))
    assert 160 < len(alone["test"].rows) < 240
    kept = cut_splits({name: _published(9) for name in ("train", "val", "test")}, shares)
    assert [(name, split.published, len(split.rows)) for name, split in kept.items()] == [
        (name, name, 9) for name in ("train", "val", "test")
    ]


def test_growing_one_share_moves_no_image_into_or_out_of_test():
    published = {"train": _published(1000)}
    small, large = (cut_splits(published, {"val": val, "test": 0.2}) for val in (0.05, 0.3))
    assert small["test"].rows.tolist() == large["test"].rows.tolist()
    assert set(small["val"].rows) < set(large["val"].rows)


def test_keys_are_uniform_and_depend_on_seed_and_content_alone():
    digests = [bytes([number % 256, number // 256] * 8) for number in range(4000)]
    keys = content_keys(digests, 0)
    assert np.abs(np.histogram(keys, 10, (0, 1))[0] - 400).max() < 100
    assert np.array_equal(keys[::-1], content_keys(digests[::-1], 0))
    assert abs(np.corrcoef(keys, content_keys(digests, 1))[0, 1]) < 0.1


def test_resizing_an_array_is_what_resizing_its_files_would_be(tmp_path):
    for array in (IMAGES, IMAGES[:, :1]):
        shape = (1, 8, 3)
        image = encoded(array[3].transpose(1, 2, 0).squeeze())
        assert np.array_equal(ArrayImages(array).pixels(3, shape), fit(decode(image), shape))


def test_a_scan_keeps_every_row_and_its_shape():
    found = scan_images(ArrayImages(IMAGES), 0)
    assert found.rows.tolist() == list(range(40))
    assert found.shapes == [(3, 4, 5)] * 40
    assert len(set(found.digests)) == 40


def _double(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_errors_come_through(workers):
    assert list(ordered_map(_double, range(50), workers)) == [2 * number for number in range(50)]
    with pytest.raises(ValueError, match="negative"):
        list(ordered_map(_double, [1, -1, 2], workers))


def test_items_are_taken_only_as_fast_as_results_are():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = ordered_map(_double, items(), 2)
    assert next(results) == 0
    assert len(taken) < 20
    results.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads counts of Linux")
def test_writing_holds_no_more_than_two_shards_whatever_the_count(tmp_path):
    count = 120

    def write() -> None:
        batches = (torch.ones(64, 3, 64, 64, dtype=torch.uint8) for _ in range(count))  # 768 KiB each
        labelled = ((images, LabelTable((), torch.empty(64, 0))) for images in batches)
        described = write_labelled_rows(tmp_path, "train", "images", labelled, META, shard_bytes=4 << 20)
        assert described["count"] == 64 * count

    assert peak_memory_mib(write) < 16  # of 90
