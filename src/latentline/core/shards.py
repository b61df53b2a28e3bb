"""Long arrays on disk: a series of few, large shards, written one at a time and read row by row when they are used.

The files are NAME-00000.safetensors, NAME-00001... (:mod:`latentline.core.arrays`), each with the same arrays. Row i of
every array belongs to the same example.
"""

import json
import os
import struct
from collections.abc import Iterable, Iterator
from io import FileIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, sha256_file

SHARD_BYTES = 128 << 20
_LOADED_AT_ONCE = 1024  # rows, by to_memory()

Run = tuple[int, int, int, int]
"""Consecutive rows of a shard: the shard, the first row in it, and their begin and end among the requested rows."""


class ShardedArray:
    """Rows (N, *shape) in shards, indexed like one tensor and read from disk at each use.

    Rows do not stay in this process's memory; the system's cache keeps those that it has room for. Files are read, not
    mapped: mapped pages would count as memory, and a shard cut short while mapped would kill the process.

    Args:
        paths: the shards.
        counts: rows in each.
        shape: of a row.
        dtype: number format.
        name: of the array in each shard.
        made_by: the stage that writes them.
    """

    def __init__(
        self, paths: list[Path], counts: list[int], shape: tuple[int, ...], dtype: torch.dtype, name: str, made_by: str
    ) -> None:
        self.shape = torch.Size((sum(counts), *shape))
        self.dtype = dtype
        self._paths, self._name, self._made_by = paths, name, made_by
        self._starts = torch.tensor([0, *counts]).cumsum(0)  # (shards + 1,)
        self._row_bytes = torch.Size(shape).numel() * dtype.itemsize
        self._offsets: dict[int, int] = {}  # shard -> where the array begins in its file

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self._row_bytes

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return a copy (B, *shape) of rows int64 (B,), in any order, or of a slice.

        Raises UserError when a shard is missing or cut short.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            rows = torch.arange(start, max(start, stop), step)
        ordered, order = rows.sort()  # the disk's order is the fastest
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        memory = found.flatten().view(torch.uint8).numpy().data  # (bytes of all rows,)
        for file, position, begin, end in self._places(ordered):
            file.seek(position)
            if file.readinto(memory[begin:end]) != end - begin:
                raise self._damaged(Path(str(file.name)), "it is cut short")
        return torch.empty_like(found).index_copy_(0, order, found)

    def prefetch(self, rows: Tensor) -> None:
        """Make the system read ``rows`` (B,) in the background. Does nothing except on Linux."""
        if hasattr(os, "posix_fadvise"):
            for file, position, begin, end in self._places(rows.sort()[0]):
                os.posix_fadvise(file.fileno(), position, end - begin, os.POSIX_FADV_WILLNEED)

    def head(self, count: int) -> "ShardedArray":
        """Return the first ``count`` rows, or all if there are fewer; reads nothing."""
        counts = self._starts.clamp(max=count).diff()  # (shards,)
        return ShardedArray(self._paths, counts.tolist(), self.shape[1:], self.dtype, self._name, self._made_by)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield consecutive batches of ``size`` rows; the last may be smaller."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to_memory(self) -> Tensor:
        """Return all rows (N, *shape) as one tensor."""
        found = torch.empty(self.shape, dtype=self.dtype)
        for start in range(0, len(self), _LOADED_AT_ONCE):
            found[start : start + _LOADED_AT_ONCE] = self[start : start + _LOADED_AT_ONCE]
        return found

    def _places(self, ordered: Tensor) -> Iterator[tuple[FileIO, int, int, int]]:
        """Yield where sorted rows (B,) lie: open shard, position in it, byte range among the requested rows."""
        for shard, runs in groupby(self._runs(ordered), key=lambda run: run[0]):
            path = self._paths[shard]
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise UserError(f"{path} is missing; run `dvc repro {self._made_by}`") from None
            with file:
                if shard not in self._offsets:
                    self._offsets[shard] = self._offset(file, path)
                for _, row, begin, end in runs:
                    yield (
                        file,
                        self._offsets[shard] + row * self._row_bytes,
                        begin * self._row_bytes,
                        end * self._row_bytes,
                    )

    def _runs(self, ordered: Tensor) -> Iterator[Run]:
        """Yield sorted rows (B,) as runs."""
        if not len(ordered):
            return
        if not (int(ordered[0]) >= 0 and int(ordered[-1]) < len(self)):
            raise IndexError(f"rows {int(ordered[0])} to {int(ordered[-1])} of {len(self)}")
        shards = torch.bucketize(ordered, self._starts[1:], right=True)  # (B,)
        broken = (ordered.diff() != 1) | (shards.diff() != 0)  # (B - 1,)
        edges = [0, *(broken.nonzero().flatten() + 1).tolist(), len(ordered)]
        local = (ordered - self._starts[shards]).tolist()
        numbers = shards.tolist()
        for begin, end in pairwise(edges):
            yield numbers[begin], local[begin], begin, end

    def _offset(self, file: FileIO, path: Path) -> int:
        """Return where the array begins in its file.

        A safetensors file is the header's length (8 bytes), the header (JSON with offsets) and the arrays.
        """
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            return 8 + int(length) + int(header[self._name]["data_offsets"][0])
        except (OSError, struct.error, KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._damaged(path, str(error)) from None

    def _damaged(self, path: Path, how: str) -> UserError:
        return UserError(f"{path} is damaged ({how}); remove it and run `dvc repro {self._made_by}`")


def write_rows(
    folder: Path, name: str, batches: Iterable[dict[str, Tensor]], meta: dict[str, Any], shard_bytes: int = SHARD_BYTES
) -> dict[str, Any]:
    """Write rows as they come to ``folder``/``name``-00000.safetensors and so on, each shard whole before the next.

    Args:
        folder: exists.
        name: of the series.
        batches: consecutive rows of each array, in any portions; ``shard_bytes`` applies to the first array.
        meta: of every shard.
        shard_bytes: of the first array in a shard, at most, but at least one row.

    Returns:
        A description of the series: ``count``, and ``shards``, the sha256 of each by its name.
    """
    shards: dict[str, str] = {}
    count = filled = 0
    buffers: dict[str, Tensor] = {}  # of one shard, filled from the front

    def flush() -> None:
        path = folder / f"{name}-{len(shards):05d}.safetensors"
        save_arrays(path, {key: buffer[:filled] for key, buffer in buffers.items()}, meta)
        shards[path.name] = sha256_file(path)

    for arrays in batches:
        rows = next(iter(arrays.values()))
        if not buffers:
            per_shard = max(1, shard_bytes // (rows.shape[1:].numel() * rows.dtype.itemsize))
            buffers = {key: array.new_empty((per_shard, *array.shape[1:])) for key, array in arrays.items()}
        taken = 0
        while taken < len(rows):
            held = min(per_shard - filled, len(rows) - taken)
            for key, array in arrays.items():
                buffers[key][filled : filled + held] = array[taken : taken + held]
            taken += held
            filled += held
            if filled == per_shard:
                flush()
                filled = 0
        count += taken
    if filled:
        flush()
    return {"count": count, "shards": shards}


def read_rows(
    paths: list[Path], name: str, made_by: str, *, verify: bool = True
) -> tuple[ShardedArray, dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_rows` wrote.

    Args:
        paths: all shards, in order; at least one.
        name: of the array that may be too large for memory.
        made_by: the stage that writes them.
        verify: whether to compare each shard with its own sha256, which reads every byte once.

    Returns:
        The rows of ``name``, read when they are used; all other arrays, in memory; and the ``meta`` of the shards.

    Raises:
        UserError: a shard is missing, damaged or of an earlier version.
    """
    counts, beside = [], dict[str, list[Tensor]]()
    for path in paths:  # one shard at a time, so that its pages are freed with it
        arrays, meta = load_arrays(path, made_by, verify=verify)
        with refusing_earlier_versions(path, made_by):
            rows = arrays.pop(name)
        counts.append(len(rows))
        for key, array in arrays.items():
            beside.setdefault(key, []).append(array.clone())
    stored = ShardedArray(paths, counts, rows.shape[1:], rows.dtype, name, made_by)
    return stored, {key: torch.cat(parts) for key, parts in beside.items()}, meta
