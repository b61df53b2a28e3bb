"""Long arrays on disk, of every number format, in shards of any size."""

import hashlib
import re
import sys

import pytest
import torch

from latentline.core import shards as stored
from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.shards import read_rows, write_rows
from support.memory import peak_memory_mib

META = {"kind": "numbers"}
ABSURD = (2**63).to_bytes(8, "little") + b"{}"  # length of a header
SHAPES = {torch.float16: (2, 3), torch.float32: (5,), torch.uint8: (1, 2, 2), torch.bfloat16: (3,)}


def _whole(dtype: torch.dtype = torch.float16, count: int = 40) -> dict[str, torch.Tensor]:
    return {"numbers": (torch.randn(count, *SHAPES[dtype]) * 50).to(dtype), "labels": torch.arange(count) % 3}


def _write(folder, arrays, per_shard=7, batch=9):
    rows = arrays["numbers"]
    batches = (
        {name: array[start : start + batch] for name, array in arrays.items()} for start in range(0, len(rows), batch)
    )
    described = write_rows(folder, "train", batches, META, per_shard * rows[0].numel() * rows.dtype.itemsize)
    return [folder / name for name in described["shards"]], described


@pytest.mark.parametrize("dtype", SHAPES)
@pytest.mark.parametrize("per_shard", [1, 7, 40, 1000])
def test_rows_come_back_bit_by_bit_whatever_the_size_of_a_shard(tmp_path, dtype, per_shard):
    arrays = _whole(dtype)
    paths, described = _write(tmp_path, arrays, per_shard)
    assert (described["count"], len(paths)) == (40, -(-40 // per_shard))
    rows, beside, meta = read_rows(paths, "numbers", "a stage")
    assert (rows.shape, rows.dtype, rows.nbytes, meta) == (
        arrays["numbers"].shape,
        dtype,
        arrays["numbers"].numel() * dtype.itemsize,
        META,
    )
    assert torch.equal(rows.to_memory(), arrays["numbers"])
    assert torch.equal(torch.cat(list(rows.split(11))), arrays["numbers"])
    assert beside.keys() == {"labels"}
    assert torch.equal(beside["labels"], arrays["labels"])


def test_any_rows_in_any_order_twice_too_are_what_a_tensor_would_give(tmp_path):
    arrays = _whole()
    rows = read_rows(_write(tmp_path, arrays)[0], "numbers", "a stage")[0]
    asked = [torch.randint(40, (size,)) for size in (1, 2, 12, 200)] + [
        torch.arange(39, -1, -1),
        torch.tensor([], dtype=torch.int64),
    ]
    for wanted in (*asked, slice(5, 30, 3), slice(None), slice(38, 100), slice(9, 2)):
        rows.prefetch(torch.arange(40)[wanted])  # changes nothing
        assert torch.equal(rows[wanted], arrays["numbers"][wanted])
    for wrong in (torch.tensor([3, 40]), torch.tensor([-1, 3])):
        with pytest.raises(IndexError, match="of 40"):
            rows[wrong]


@pytest.mark.parametrize("count", [0, 1, 7, 12, 40, 100])
def test_the_first_rows_are_those_and_no_more(tmp_path, count):
    arrays = _whole()
    few = read_rows(_write(tmp_path, arrays)[0], "numbers", "a stage")[0].head(count)
    assert torch.equal(few.to_memory(), arrays["numbers"][:count])
    with pytest.raises(IndexError):
        few[torch.tensor([min(count, 40)])]


def test_what_is_taken_is_a_copy(tmp_path):
    arrays = _whole()
    rows = read_rows(_write(tmp_path, arrays)[0], "numbers", "a stage")[0]
    rows[:5].zero_()
    assert torch.equal(rows[:5], arrays["numbers"][:5])


def test_shards_do_not_depend_on_the_portions_they_came_in_and_say_their_sha256(tmp_path):
    arrays = _whole()
    descriptions = [_write(tmp_path / str(batch), arrays, batch=batch)[1] for batch in (1, 9, 40)]
    assert descriptions[0] == descriptions[1] == descriptions[2]
    for name, digest in descriptions[0]["shards"].items():
        assert hashlib.sha256((tmp_path / "9" / name).read_bytes()).hexdigest() == digest


def test_a_shard_that_is_missing_or_damaged_is_refused_in_one_line(tmp_path):
    paths, _ = _write(tmp_path, _whole())
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        UserError, match=r"train-00003\.safetensors is damaged: .*; remove it and run `dvc repro a stage`"
    ) as caught:
        read_rows(paths, "numbers", "a stage")
    assert "\n" not in str(caught.value)
    paths[3].unlink()
    with pytest.raises(UserError, match=r"train-00003\.safetensors is missing; run `dvc repro a stage`"):
        read_rows(paths, "numbers", "a stage")


def test_a_shard_that_is_lost_or_cut_short_while_it_is_in_use_is_refused_too(tmp_path):
    arrays = _whole()
    paths, _ = _write(tmp_path, arrays)
    content = paths[1].read_bytes()
    for damage in (content[:-30], content[:100], content[:5], ABSURD, b""):
        rows = read_rows([paths[0]], "numbers", "a stage")[0]
        both = stored.ShardedArray(paths[:2], [7, 7], rows.shape[1:], rows.dtype, "numbers", "a stage")
        paths[1].write_bytes(damage)
        assert torch.equal(both[:7], arrays["numbers"][:7])
        with pytest.raises(
            UserError, match=r"train-00001\.safetensors is damaged \(.*\); remove it and run `dvc repro a stage`"
        ) as caught:
            both[:]
        assert "\n" not in str(caught.value)
    paths[1].unlink()
    with pytest.raises(UserError, match="is missing; run `dvc repro a stage`"):
        both[:]


def test_where_a_row_lies_is_what_the_format_says(tmp_path):
    """Against the library that wrote the file: another array before ours, and metadata."""
    path = tmp_path / "x.safetensors"
    save_arrays(path, {"before": torch.arange(7.0), "numbers": torch.arange(12.0).reshape(4, 3)}, META)
    rows = stored.ShardedArray([path], [4], (3,), torch.float32, "numbers", "")
    assert torch.equal(rows.to_memory(), load_arrays(path, "")[0]["numbers"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads counts of Linux")
def test_reading_every_row_holds_a_shard_at_most_whatever_the_count(tmp_path):
    block = {"numbers": torch.ones(512, 4096).half()}  # 4 MiB
    described = write_rows(tmp_path, "train", (block for _ in range(16)), META, shard_bytes=4 << 20)

    def read() -> None:
        rows = read_rows([tmp_path / name for name in described["shards"]], "numbers", "a stage")[0]
        for step in range(20):
            rows[torch.arange(step, len(rows), 200)]
        for _ in rows.split(64):
            pass

    assert peak_memory_mib(read) < 16  # of 64
    whole = read_rows([tmp_path / name for name in described["shards"]], "numbers", "a stage")[0]
    assert peak_memory_mib(whole.to_memory) > 60  # the measure works


def test_shards_are_named_in_their_order(tmp_path):
    names = [path.name for path in _write(tmp_path, _whole(), per_shard=3)[0]]
    assert names == sorted(names)
    assert all(re.fullmatch(r"train-\d{5}\.safetensors", name) for name in names)
