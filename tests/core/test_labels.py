"""A table of labels of any schema comes back from its arrays and from shards of images, latents and samples."""

import json
from pathlib import Path

import pytest
import torch

from latentline.core.arrays import load_arrays
from latentline.core.attributes import CLASS, Attribute
from latentline.core.errors import UserError
from latentline.core.files import write_sealed_json
from latentline.core.labels import (
    LabelTable,
    build_schema,
    class_names,
    read_labelled_rows,
    schema_from_json,
    schema_to_json,
    write_labelled_rows,
)
from latentline.data.samples import read_samples, write_samples
from latentline.data.store import read_split
from latentline.latents.cache import LatentSplit, read_labels, read_latents, write_cache

CLASSES = ("cat", "dog", "owl")
BINARY = Attribute("smiling", "binary")
CONTINUOUS = Attribute("age", "continuous", mean=40.0, std=12.5)
CATEGORICAL = Attribute("hair", "categorical", ("black", "red"))
SCHEMAS = {
    "nothing": build_schema((), ()),
    "class": build_schema(CLASSES, ()),
    "binary": build_schema((), (BINARY,)),
    "continuous": build_schema((), (CONTINUOUS,)),
    "categorical": build_schema((), (CATEGORICAL,)),
    "attributes": build_schema((), (BINARY, CONTINUOUS, CATEGORICAL)),
    "class and attributes": build_schema(CLASSES, (CATEGORICAL, BINARY, CONTINUOUS)),
}
COUNT = 20


@pytest.fixture(params=SCHEMAS)
def table(request) -> LabelTable:
    """The labels of 20 images, of each kind of schema."""
    schema = SCHEMAS[request.param]
    columns = [
        torch.randint(len(attribute.classes) or 2, (COUNT,)).float()
        if attribute.kind != "continuous"
        else torch.randn(COUNT)
        for attribute in schema
    ]
    return LabelTable(schema, torch.stack(columns, dim=1) if columns else torch.empty(COUNT, 0))


def _same(one: LabelTable, other: LabelTable) -> bool:
    return one.schema == other.schema and torch.equal(one.values, other.values)


def test_the_class_comes_first_where_there_is_one():
    assert [attribute.name for attribute in SCHEMAS["class and attributes"]] == [CLASS, "hair", "smiling", "age"]
    assert class_names(SCHEMAS["class and attributes"]) == class_names(SCHEMAS["class"]) == CLASSES
    assert SCHEMAS["categorical"] == (CATEGORICAL,)
    assert class_names(SCHEMAS["categorical"]) == class_names(()) == ()


def test_a_schema_comes_back_from_json(table):
    assert schema_from_json(json.loads(json.dumps(schema_to_json(table.schema)))) == table.schema


def test_a_table_comes_back_from_its_arrays(table):
    assert _same(LabelTable.from_arrays(table.schema, table.arrays(), COUNT), table)


def test_the_arrays_are_the_class_as_an_integer_and_all_other_columns_and_none_that_is_empty(table):
    arrays, classes = table.arrays(), class_names(table.schema)
    attributes = [index for index, attribute in enumerate(table.schema) if attribute.name != CLASS]
    assert arrays.keys() == {*(["labels"] if classes else []), *(["attributes"] if attributes else [])}
    if classes:
        assert arrays["labels"].dtype == torch.int64
        assert torch.equal(arrays["labels"].float(), table.column(CLASS))
    if attributes:
        assert arrays["attributes"].dtype == torch.float32
        assert torch.equal(arrays["attributes"], table.values[:, attributes])


@pytest.mark.parametrize("in_metadata", [True, False])
@pytest.mark.parametrize("batch", [1, 7, COUNT])
def test_a_table_comes_back_from_shards_beside_its_rows(tmp_path, table, batch, in_metadata):
    rows = torch.randn(COUNT, 2)
    batches = ((rows[start : start + batch], table[start : start + batch]) for start in range(0, COUNT, batch))
    described = write_labelled_rows(
        tmp_path, "x", "rows", batches, {"schema": schema_to_json(table.schema)}, shard_bytes=7 * 8
    )
    assert (described["count"], len(described["shards"])) == (COUNT, 3)
    paths = [tmp_path / name for name in described["shards"]]
    read, labels, meta = read_labelled_rows(paths, "rows", None if in_metadata else table.schema, "a stage")
    assert _same(labels, table)
    assert torch.equal(read.to_memory(), rows)
    assert schema_from_json(meta["schema"]) == table.schema


def test_a_missing_shard_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"x-00000\.safetensors is missing; run `dvc repro a stage`"):
        read_labelled_rows([tmp_path / "x-00000.safetensors"], "rows", (), "a stage")


def _arrays_on_disk(path: Path, rows: str) -> dict[str, torch.Tensor]:
    arrays = load_arrays(path, "a stage")[0]
    del arrays[rows]
    return arrays


def test_images_latents_and_samples_carry_the_same_arrays(tmp_path, table):
    images, latents = torch.zeros(COUNT, 1, 2, 2, dtype=torch.uint8), torch.randn(COUNT, 3)
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    described = write_labelled_rows(prepared, "train", "images", [(images, table)], {"kind": "images"})
    card = {"schema": schema_to_json(table.schema), "shape": [1, 2, 2], "horizontal_flip": False}
    write_sealed_json(prepared / "card.json", {**card, "splits": {"train": described}})
    write_cache(tmp_path, {"train": [LatentSplit(latents, table)]}, schema=table.schema, autoencoder="ab" * 32)
    write_samples(tmp_path / "data" / "generated", [images], table, "ab" * 32)

    files = {
        "images": prepared / "train-00000.safetensors",
        "latents": tmp_path / "encoded_img" / "latents" / "train-00000.safetensors",
        "samples": tmp_path / "data" / "generated" / "samples-00000.safetensors",
    }
    for name, path in files.items():
        stored = _arrays_on_disk(path, "latents" if name == "latents" else "images")
        assert stored.keys() == table.arrays().keys()
        for key, array in table.arrays().items():
            assert stored[key].dtype == array.dtype
            assert torch.equal(stored[key], array)
    assert _same(read_split(prepared, "train").labels, table)
    assert _same(read_latents("train", tmp_path).labels, table)
    assert _same(read_labels(table.schema, tmp_path), table)
    assert _same(read_samples(tmp_path / "data" / "generated", "ab" * 32).labels, table)


def test_rows_of_a_table_are_rows_of_its_values(table):
    for rows in (slice(3, 9), torch.tensor([4, 0, 4]), torch.arange(COUNT) % 2 == 0):
        part = table[rows]
        assert torch.equal(part.values, table.values[rows])
        assert (part.schema, len(part)) == (table.schema, len(table.values[rows]))


def test_columns_are_found_and_selected_by_name_in_the_order_of_the_schema():
    values = torch.tensor([[2.0, 1.0, 0.0, 41.5], [0.0, 0.0, 1.0, 7.0]])
    table = LabelTable(SCHEMAS["class and attributes"], values)
    assert table.names == [CLASS, "hair", "smiling", "age"]
    assert table.classes is not None
    assert table.classes.tolist() == [2, 0]
    assert table.column("age").tolist() == [41.5, 7]
    assert _same(table.select(["age", "hair"]), LabelTable((CATEGORICAL, CONTINUOUS), values[:, [1, 3]]))
    assert table.select(["age", "hair"]).classes is None
    assert _same(table.select([CLASS]), LabelTable(SCHEMAS["class"], values[:, :1]))
    assert (table.select([]).schema, table.select([]).values.shape) == ((), (2, 0))
