"""All latents for other tools: encoded_img/export/{train,val,test}.FORMAT, one row per image in the stored order.

npz, safetensors   z0 float32 (N, *latent shape); labels int64 (N,) and attributes float32 (N, A), without empty ones
parquet            column z0, a list of numbers per row; a column per class label and attribute; classes by their names

A missing value is NaN, in parquet null.

z0 is standardised, as the denoiser and the probes receive it; encoded_img/stats.json holds mean and std of raw latents.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentline.core.arrays import save_arrays
from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder, write_json
from latentline.core.shards import ShardedArray
from latentline.data.store import StoreCard
from latentline.latents.cache import LatentSplit, LatentStats
from latentline.runtime.memory import require_memory

_PARQUET_NEEDS = "pyarrow"


def require_exportable(name: str, card: StoreCard, shape: tuple[int, ...]) -> None:
    """Raise UserError when the package for format ``name`` is missing, or a split does not fit into memory."""
    require_format(name)
    count = max(card.counts.values())
    what = f"latents.export ({name}) of {count} latents of shape {shape}, in float32, needs"
    require_memory(4 * count * math.prod(shape), torch.device("cpu"), what, "set it to null, or lower data.limit")


def require_format(name: str | None) -> None:
    """Raise UserError when the package for the format ``latents.export`` is not installed."""
    if name == "parquet" and find_spec(_PARQUET_NEEDS) is None:
        raise UserError(
            f"latents.export (parquet) needs the package {_PARQUET_NEEDS}; "
            "`.venv/bin/pip install -e '.[parquet]'`, or set it to npz or safetensors"
        )


def export_latents(
    folder: Path, splits: dict[str, LatentSplit[ShardedArray]], stats: LatentStats, name: str | None
) -> None:
    """Write ``folder`` in format ``name`` (``latents.export``), whole or not at all; equal latents give equal bytes.

    A split must fit into memory. Without a format the folder holds only a note, since it is an out of the stage.
    """
    with replaced_folder(folder) as temporary:
        if name is None:
            write_json(temporary / "off.json", {"latents.export": None})
            return
        for split_name, split in splits.items():
            _FORMATS[name](
                temporary / f"{split_name}.{name}", stats.normalizer.standardise(split.latents[:]), split, stats.schema
            )


def _write_safetensors(
    path: Path, z0: Tensor, split: LatentSplit[ShardedArray], columns: tuple[Attribute, ...]
) -> None:
    save_arrays(
        path,
        {"z0": z0, **split.labels.arrays()},
        {"kind": "exported latents", "columns": [column.name for column in columns]},
    )


def _write_npz(path: Path, z0: Tensor, split: LatentSplit[ShardedArray], columns: tuple[Attribute, ...]) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in {"z0": z0, **split.labels.arrays()}.items()}
    np.savez(path, **arrays)


def _write_parquet(path: Path, z0: Tensor, split: LatentSplit[ShardedArray], columns: tuple[Attribute, ...]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    flat = z0.flatten(1)  # (N, numbers of one latent)
    table = {"z0": pa.FixedSizeListArray.from_arrays(pa.array(flat.flatten().numpy()), flat.shape[1])}
    for column, values in zip(columns, split.labels.values.T, strict=True):
        names, missing = pa.array(column.classes, pa.string()), values.isnan()
        mask = missing.numpy() if missing.any() else None
        table[column.name] = (
            pa.DictionaryArray.from_arrays(pa.array(values.nan_to_num().to(torch.int32).numpy(), mask=mask), names)
            if column.classes
            else pa.array(values.numpy(), mask=mask)
        )
    parquet.write_table(pa.table(table), path)


_FORMATS: dict[str, Callable[[Path, Tensor, LatentSplit[ShardedArray], tuple[Attribute, ...]], None]] = {
    "npz": _write_npz,
    "parquet": _write_parquet,
    "safetensors": _write_safetensors,
}
