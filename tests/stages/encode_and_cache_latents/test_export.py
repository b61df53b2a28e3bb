"""Latents for other tools, read back with those tools."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from latentline.core.attributes import Column
from latentline.core.errors import UserError
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from stages.encode_and_cache_latents import export
from stages.encode_and_cache_latents.export import export_latents, require_format

ATTRIBUTES = (Column("smiling", "binary"), Column("age", "continuous", mean=0.1, std=2.5), Column("hair", "categorical", ("black", "red")))
FORMATS = ("npz", "parquet", "safetensors")


@pytest.fixture(params=[(2, 3, 4), (6,)], ids=["maps", "vectors"])
def splits(request) -> dict[str, LatentSplit]:
    return {
        name: LatentSplit((torch.randn(count, *request.param) * 3 + 5).half(), torch.arange(count) % 3, torch.rand(count, 3).round())
        for name, count in {"train": 20, "val": 4, "test": 5}.items()
    }


@pytest.fixture
def stats(tmp_path, splits) -> LatentStats:
    portions = {name: [split] for name, split in splits.items()}
    return write_cache(tmp_path / "cache", portions, classes=("a", "b", "c"), attributes=ATTRIBUTES, autoencoder="ab" * 32)


@pytest.mark.parametrize("name", ["npz", "safetensors"])
def test_arrays_are_standardised_latents_with_all_that_is_known(tmp_path, splits, stats, name):
    export_latents(tmp_path / "export", splits, stats, name)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [f"test.{name}", f"train.{name}", f"val.{name}"]
    described = json.loads((tmp_path / "cache" / "stats.json").read_text())
    for split_name, split in splits.items():
        path = tmp_path / "export" / f"{split_name}.{name}"
        arrays = dict(np.load(path)) if name == "npz" else load_file(path)
        assert arrays.keys() == {"z0", "labels", "attributes"}
        shape = (-1, *[1] * (split.latents.ndim - 2))
        raw = arrays["z0"] * np.reshape(described["std"], shape) + np.reshape(described["mean"], shape)
        np.testing.assert_allclose(raw, split.latents.float().numpy(), atol=1e-5)
        np.testing.assert_array_equal(arrays["labels"], split.labels.numpy())
        np.testing.assert_array_equal(arrays["attributes"], split.attributes.numpy())


def test_a_parquet_table_has_a_row_per_image_and_a_column_per_name(tmp_path, splits, stats):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    export_latents(tmp_path / "export", splits, stats, "parquet")
    table, split = pd.read_parquet(tmp_path / "export" / "test.parquet"), splits["test"]
    assert list(table) == ["z0", "label", "smiling", "age", "hair"]
    np.testing.assert_array_equal(np.stack(table["z0"]), stats.normalizer.standardise(split.latents).flatten(1).numpy())
    assert list(table["label"]) == ["abc"[label] for label in split.labels]
    assert list(table["hair"]) == [("black", "red")[int(kind)] for kind in split.attributes[:, 2]]
    np.testing.assert_array_equal(table[["smiling", "age"]].to_numpy(), split.attributes[:, :2].numpy())


@pytest.mark.parametrize("name", FORMATS)
def test_exporting_twice_gives_the_same_bytes(tmp_path, splits, stats, name):
    for folder in ("one", "other"):
        export_latents(tmp_path / folder, splits, stats, name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_where_nothing_is_known_there_are_only_latents(tmp_path, name):
    split = LatentSplit(torch.randn(6, 1, 2, 2), None, None)
    stats = write_cache(tmp_path / "cache", {"train": [split]}, classes=(), attributes=(), autoencoder="ab" * 32)
    export_latents(tmp_path / "export", {"train": split}, stats, name)
    path = tmp_path / "export" / f"train.{name}"
    if name == "parquet":
        assert list(pytest.importorskip("pyarrow.parquet").read_table(path).column_names) == ["z0"]
    else:
        assert (np.load(path) if name == "npz" else load_file(path)).keys() == {"z0"}


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(export, "_PARQUET_NEEDS", "surely_not_installed")
    with pytest.raises(UserError, match=r"latents\.export: parquet needs the package surely_not_installed"):
        require_format("parquet")
    require_format("npz")
    require_format("safetensors")
