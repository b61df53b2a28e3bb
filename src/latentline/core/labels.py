"""One table of labels for images, latents and samples: a schema and one array, in memory and on disk.

A shard on disk (:mod:`latentline.core.shards`) stores the labels of its rows in plain arrays, which other tools can
read: ``labels`` int64 (N,), the class, and ``attributes`` float32 (N, A), all other columns, NaN where a value is
missing. An array without columns is left out. The schema is stored as JSON.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.files import refusing_earlier_versions
from latentline.core.shards import SHARD_BYTES, ShardedArray, read_rows, write_rows

Schema = tuple[Attribute, ...]
"""The columns of a table: the class, where there is one, then the attributes."""


def build_schema(classes: Sequence[str], attributes: Sequence[Attribute]) -> Schema:
    """Return the class as a categorical attribute, where there are ``classes``, then the ``attributes``."""
    return ((Attribute(CLASS, "categorical", tuple(classes)),) if classes else ()) + tuple(attributes)


def schema_to_json(schema: Sequence[Attribute]) -> list[dict[str, Any]]:
    """Return the schema as dictionaries of the attributes' fields, for JSON."""
    return [asdict(attribute) for attribute in schema]


def schema_from_json(items: Sequence[dict[str, Any]]) -> Schema:
    """Return the schema that :func:`schema_to_json` returned as dictionaries."""
    return tuple(Attribute(**{**item, "classes": tuple(item["classes"])}) for item in items)


def class_names(schema: Sequence[Attribute]) -> tuple[str, ...]:
    """Return the names of the classes; none where the table has no class."""
    return schema[0].classes if schema and schema[0].name == CLASS else ()


@dataclass(frozen=True)
class LabelTable:
    """The labels of N images: ``values`` float32 (N, A), one column for each attribute of ``schema``.

    NaN is a missing value, which the class never has.
    """

    schema: Schema
    values: Tensor

    @classmethod
    def from_arrays(cls, schema: Schema, arrays: dict[str, Tensor], count: int) -> "LabelTable":
        """Return the table of ``count`` rows from the arrays on disk, the inverse of :meth:`arrays`."""
        columns = [torch.empty(count, 0)]
        if "labels" in arrays:
            columns.append(arrays["labels"][:, None].float())
        if "attributes" in arrays:
            columns.append(arrays["attributes"])
        return cls(schema, torch.cat(columns, dim=1))

    def arrays(self) -> dict[str, Tensor]:
        """Return the arrays for the disk, without empty ones: ``labels`` int64 (N,), ``attributes`` float32 (N, A)."""
        classes = 1 if class_names(self.schema) else 0
        arrays = {"labels": self.values[:, 0].long()} if classes else {}
        return {**arrays, "attributes": self.values[:, classes:]} if len(self.schema) > classes else arrays

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Tensor | slice) -> "LabelTable":
        """Return the table of some rows: int64 (B,), bool (N,) or a slice."""
        return LabelTable(self.schema, self.values[rows])

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [attribute.name for attribute in self.schema]

    @property
    def classes(self) -> Tensor | None:
        """Class indices int64 (N,); None where the table has no class."""
        return self.values[:, 0].long() if class_names(self.schema) else None

    def column(self, name: str) -> Tensor:
        """Return the values (N,) of the attribute ``name``."""
        return self.values[:, self.names.index(name)]

    def select(self, names: Sequence[str]) -> "LabelTable":
        """Return the table of the columns ``names``, in the order of the schema."""
        columns = [index for index, name in enumerate(self.names) if name in names]
        return LabelTable(tuple(self.schema[index] for index in columns), self.values[:, columns])


def write_labelled_rows(
    folder: Path,
    series: str,
    name: str,
    batches: Iterable[tuple[Tensor, LabelTable]],
    meta: dict[str, Any],
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write rows with their labels as they come; see :func:`latentline.core.shards.write_rows`.

    Args:
        folder: exists.
        series: first part of the files' names.
        name: of the array of rows (``images``, ``latents``).
        batches: consecutive rows (B, ...) and their labels, in any portions.
        meta: of every shard.
        shard_bytes: of the rows in a shard, at most, but at least one row.

    Returns:
        ``count``, and ``shards``, the sha256 of each by its name.
    """
    arrays = ({name: rows, **labels.arrays()} for rows, labels in batches)
    return write_rows(folder, series, arrays, meta, shard_bytes)


def read_labelled_rows(
    paths: list[Path], name: str, schema: Schema | None, made_by: str, *, verify: bool = True
) -> tuple[ShardedArray, LabelTable, dict[str, Any]]:
    """Return rows that are read when they are used, their labels in memory, and the metadata of the shards.

    Args:
        paths: all shards, in order; at least one.
        name: of the array of rows.
        schema: of the labels; None = the shards' metadata holds it as ``schema``.
        made_by: the stage that writes them.
        verify: whether to compare each shard with its own sha256, which reads every byte once.

    Raises:
        UserError: a shard is missing, damaged or of an earlier version.
    """
    rows, arrays, meta = read_rows(paths, name, made_by, verify=verify)
    with refusing_earlier_versions(paths[-1], made_by):
        stored = schema_from_json(meta["schema"]) if schema is None else schema
    return rows, LabelTable.from_arrays(stored, arrays, len(rows)), meta
