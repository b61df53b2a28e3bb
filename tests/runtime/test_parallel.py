"""Ranks exchange tensors and objects, the same bytes on each, and notice at once when one of them ends."""

import json
import os
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.interrupt import LostRankError
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks, init_distributed
from support.several import several

CPU = torch.device("cpu")


@given(st.integers(0, 50), st.integers(1, 9))
def test_the_slices_of_all_processes_cover_the_rows_once_in_order(total, count):
    slices = [Ranks(number, count).slice_of(total) for number in range(count)]
    assert [row for part in slices for row in range(total)[part]] == list(range(total))
    sizes = [part.stop - part.start for part in slices]
    assert max(sizes) <= min(sizes) + 1


def test_one_process_alone_gives_back_what_it_was_given():
    tensor = torch.randn(3)
    before = tensor.clone()
    SINGLE_PROCESS.all_reduce([tensor])
    SINGLE_PROCESS.exit_non_main()
    SINGLE_PROCESS.barrier()
    assert torch.equal(tensor, before)
    assert (SINGLE_PROCESS.any_rank(True), SINGLE_PROCESS.any_rank(False)) == (True, False)
    assert SINGLE_PROCESS.broadcast_object({"a": None}) == {"a": None}
    assert SINGLE_PROCESS.broadcast({"x": tensor}, {"step": 1}) == ({"x": tensor}, {"step": 1})
    assert torch.equal(SINGLE_PROCESS.all_gather(tensor, 3), tensor)
    assert init_distributed(CPU, 1, 1) == (CPU, SINGLE_PROCESS)


def test_sums_are_the_same_bytes_everywhere_in_the_layout_that_each_tensor_has():
    def work(ranks: Ranks) -> list[Tensor]:
        draw = torch.Generator().manual_seed(ranks.number)
        maps = torch.randn(2, 3, 4, 5, generator=draw).contiguous(memory_format=torch.channels_last)
        tensors = [maps, torch.randn((), generator=draw), torch.randn(7, generator=draw)]
        ranks.all_reduce(tensors)
        assert maps.is_contiguous(memory_format=torch.channels_last)
        return tensors

    results = several(3, work)
    draws = [torch.Generator().manual_seed(number) for number in range(3)]
    for index, shape in enumerate([(2, 3, 4, 5), (), (7,)]):
        expected = sum(torch.randn(shape, generator=draw) for draw in draws)
        torch.testing.assert_close(results[0][index], expected)
        assert all(torch.equal(result[index], results[0][index]) for result in results)


def test_all_ranks_receive_what_rank_0_broadcasts_and_any_rank_flags():
    def work(ranks: Ranks) -> tuple[object, ...]:
        received = ranks.broadcast_object({"loss": float(ranks.number), "nothing": float("nan")})
        tensors = (
            {"w": torch.full((2, 2), ranks.number + 5.0), "step": torch.tensor(ranks.number + 3)}
            if ranks.is_main
            else {}
        )
        spread, meta = ranks.broadcast(tensors, {"step": ranks.number + 3})
        rows = torch.arange(7)[:, None].expand(7, 2)[ranks.slice_of(7)]
        flags = ranks.any_rank(ranks.number == 1), ranks.any_rank(False)
        ranks.barrier()
        return json.dumps(received), spread, meta, ranks.all_gather(rows, 7), flags

    for received, spread, meta, rows, flags in several(3, work):
        assert received == '{"loss": 0.0, "nothing": NaN}'
        assert spread["w"].tolist() == [[5.0, 5.0], [5.0, 5.0]]
        assert (spread["step"].dtype, spread["step"].item(), meta) == (torch.int64, 3, {"step": 3})
        assert rows.tolist() == [[row, row] for row in range(7)]
        assert flags == (True, False)


def test_all_ranks_but_the_first_exit():
    def work(ranks: Ranks) -> str:
        ranks.barrier()  # else the first may end while the others still connect
        try:
            ranks.exit_non_main()
        except SystemExit as end:
            return f"ended with {end.code}"
        return "goes on"

    assert several(3, work) == ["goes on", "ended with 0", "ended with 0"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_ends_is_noticed_by_the_others_at_once(lost):
    def work(ranks: Ranks) -> float:
        ranks.barrier()
        if ranks.number == lost:
            os._exit(9)
        started = time.monotonic()
        with pytest.raises(LostRankError, match=f"process {ranks.number} of 3 has lost another one"):
            ranks.all_reduce([torch.ones(4)])
        return time.monotonic() - started

    results = several(3, work)
    assert results.pop(lost) is None
    assert max(results) < 10  # seconds; at rest a hundredth of one


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "more than there are": (
        lambda: init_distributed(torch.device("mps"), 2, 1),
        "compute.devices (2) must not exceed this machine's devices of type mps (1)",
    ),
    "no address of rank 0": (
        lambda: init_distributed(CPU, 1, 2),
        "compute.nodes (2) must come with MASTER_ADDR, MASTER_PORT, NODE_RANK in the environment",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_started_is_refused_in_one_line(case, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    act, hint = REFUSED[case]
    with pytest.raises(UserError) as caught:
        act()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(hint)


def test_processes_that_were_started_without_the_settings_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        UserError,
        match=r"compute\.devices \(1\) x compute\.nodes \(1\) must be the number of processes that were started \(4\)",
    ):
        init_distributed(CPU, 1, 1)
