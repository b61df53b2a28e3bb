"""Latents for other tools, read back with those tools."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, Schema, build_schema
from latentline.core.paths import LATENT_STATS
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from stages.encode_and_cache_latents import export
from stages.encode_and_cache_latents.export import export_latents, require_format

ATTRIBUTES = (
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=0.1, std=2.5),
    Attribute("hair", "categorical", ("black", "red")),
)
SCHEMA = build_schema(("a", "b", "c"), ATTRIBUTES)
FORMATS = ("npz", "parquet", "safetensors")


def _labels(count: int) -> LabelTable:
    return LabelTable(SCHEMA, torch.stack([torch.arange(count) % 3.0, *torch.rand(3, count).round()], dim=1))


@pytest.fixture(params=[(2, 3, 4), (6,)], ids=["maps", "vectors"])
def splits(request) -> dict[str, LatentSplit]:
    return {
        name: LatentSplit((torch.randn(count, *request.param) * 3 + 5).half(), _labels(count))
        for name, count in {"train": 20, "val": 4, "test": 5}.items()
    }


@pytest.fixture
def stats(tmp_path, splits) -> LatentStats:
    portions = {name: [split] for name, split in splits.items()}
    return write_cache(tmp_path / "cache", portions, schema=SCHEMA, autoencoder="ab" * 32)


@pytest.mark.parametrize("name", ["npz", "safetensors"])
def test_arrays_are_standardised_latents_with_all_labels(tmp_path, splits, stats, name):
    export_latents(tmp_path / "export", splits, stats, name)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        f"test.{name}",
        f"train.{name}",
        f"val.{name}",
    ]
    described = json.loads((tmp_path / "cache" / LATENT_STATS).read_text())
    for split_name, split in splits.items():
        path = tmp_path / "export" / f"{split_name}.{name}"
        arrays = dict(np.load(path)) if name == "npz" else load_file(path)
        assert arrays.keys() == {"z0", "labels", "attributes"}
        shape = (-1, *[1] * (split.latents.ndim - 2))
        raw = arrays["z0"] * np.reshape(described["std"], shape) + np.reshape(described["mean"], shape)
        np.testing.assert_allclose(raw, split.latents.float().numpy(), atol=1e-5)
        np.testing.assert_array_equal(arrays["labels"], split.labels.classes.numpy())
        np.testing.assert_array_equal(arrays["attributes"], split.labels.values[:, 1:].numpy())


def test_a_parquet_table_has_a_row_per_image_and_a_column_per_name(tmp_path, splits, stats):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    export_latents(tmp_path / "export", splits, stats, "parquet")
    table, split = pd.read_parquet(tmp_path / "export" / "test.parquet"), splits["test"]
    assert list(table) == ["z0", "label", "smiling", "age", "hair"]
    np.testing.assert_array_equal(np.stack(table["z0"]), stats.normalizer.standardise(split.latents).flatten(1).numpy())
    assert list(table["label"]) == ["abc"[label] for label in split.labels.classes]
    assert list(table["hair"]) == [("black", "red")[int(value)] for value in split.labels.column("hair")]
    numbers = split.labels.select(["smiling", "age"]).values
    np.testing.assert_array_equal(table[["smiling", "age"]].to_numpy(), numbers.numpy())


@pytest.mark.parametrize("name", FORMATS)
def test_exporting_twice_gives_the_same_bytes(tmp_path, splits, stats, name):
    for folder in ("one", "other"):
        export_latents(tmp_path / folder, splits, stats, name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_without_labels_there_are_only_latents(tmp_path, name):
    schema: Schema = ()
    split = LatentSplit(torch.randn(6, 1, 2, 2), LabelTable(schema, torch.empty(6, 0)))
    stats = write_cache(tmp_path / "cache", {"train": [split]}, schema=schema, autoencoder="ab" * 32)
    export_latents(tmp_path / "export", {"train": split}, stats, name)
    path = tmp_path / "export" / f"train.{name}"
    if name == "parquet":
        assert list(pytest.importorskip("pyarrow.parquet").read_table(path).column_names) == ["z0"]
    else:
        assert (np.load(path) if name == "npz" else load_file(path)).keys() == {"z0"}


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(export, "_PARQUET_NEEDS", "surely_not_installed")
    message = r"latents\.export \(parquet\) needs the package surely_not_installed; `\.venv/bin/pip"
    with pytest.raises(UserError, match=message):
        require_format("parquet")
    require_format("npz")
    require_format("safetensors")


def test_without_a_format_the_folder_holds_only_a_note(tmp_path, splits, stats):
    export_latents(tmp_path / "export", splits, stats, "npz")
    export_latents(tmp_path / "export", splits, stats, None)
    (path,) = (tmp_path / "export").iterdir()
    assert json.loads(path.read_text()) == {"latents.export": None}


def test_a_missing_value_is_null_in_parquet(tmp_path, splits, stats):
    parquet = pytest.importorskip("pyarrow.parquet")
    splits["test"].labels.values[1, 1:] = torch.nan
    export_latents(tmp_path / "export", splits, stats, "parquet")
    table = parquet.read_table(tmp_path / "export" / "test.parquet")
    nulls = {name: table[name].is_null().to_pylist() for name in ("label", "smiling", "age", "hair")}
    gap = [False, True, False, False, False]
    assert nulls == {"label": [False] * 5, "smiling": gap, "age": gap, "hair": gap}
