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
from latentline.runtime.parallel import ALONE, Ranks, join
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
    ALONE.add([tensor])
    ALONE.dismiss()
    ALONE.wait()
    assert torch.equal(tensor, before)
    assert (ALONE.any(True), ALONE.any(False)) == (True, False)
    assert ALONE.tell({"a": None}) == {"a": None}
    assert ALONE.spread({"x": tensor}, {"step": 1}) == ({"x": tensor}, {"step": 1})
    assert torch.equal(ALONE.join_rows(tensor, 3), tensor)
    assert join(CPU, 1, 1) == (CPU, ALONE)


def test_sums_are_the_same_bytes_everywhere_in_the_layout_that_each_tensor_has():
    def work(ranks: Ranks) -> list[Tensor]:
        draw = torch.Generator().manual_seed(ranks.number)
        maps = torch.randn(2, 3, 4, 5, generator=draw).contiguous(memory_format=torch.channels_last)
        tensors = [maps, torch.randn((), generator=draw), torch.randn(7, generator=draw)]
        ranks.add(tensors)
        assert maps.is_contiguous(memory_format=torch.channels_last)
        return tensors

    results = several(3, work)
    draws = [torch.Generator().manual_seed(number) for number in range(3)]
    for index, shape in enumerate([(2, 3, 4, 5), (), (7,)]):
        expected = sum(torch.randn(shape, generator=draw) for draw in draws)
        torch.testing.assert_close(results[0][index], expected)
        assert all(torch.equal(result[index], results[0][index]) for result in results)


def test_all_hear_what_the_first_says_and_what_any_says():
    def work(ranks: Ranks) -> tuple[object, ...]:
        told = ranks.tell({"loss": float(ranks.number), "nothing": float("nan")})
        tensors = {"w": torch.full((2, 2), ranks.number + 5.0), "step": torch.tensor(ranks.number + 3)} if ranks.is_first else {}
        spread, meta = ranks.spread(tensors, {"step": ranks.number + 3})
        rows = torch.arange(7)[:, None].expand(7, 2)[ranks.slice_of(7)]
        flags = ranks.any(ranks.number == 1), ranks.any(False)
        ranks.wait()
        return json.dumps(told), spread, meta, ranks.join_rows(rows, 7), flags

    for told, spread, meta, rows, flags in several(3, work):
        assert told == '{"loss": 0.0, "nothing": NaN}'
        assert spread["w"].tolist() == [[5.0, 5.0], [5.0, 5.0]]
        assert (spread["step"].dtype, spread["step"].item(), meta) == (torch.int64, 3, {"step": 3})
        assert rows.tolist() == [[row, row] for row in range(7)]
        assert flags == (True, False)


def test_only_the_first_process_is_not_dismissed():
    def work(ranks: Ranks) -> str:
        try:
            ranks.dismiss()
        except SystemExit as end:
            return f"ended with {end.code}"
        return "goes on"

    assert several(3, work) == ["goes on", "ended with 0", "ended with 0"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_ends_is_noticed_by_the_others_at_once(lost):
    def work(ranks: Ranks) -> float:
        ranks.wait()
        if ranks.number == lost:
            os._exit(9)
        started = time.monotonic()
        with pytest.raises(LostRankError, match=f"process {ranks.number} of 3 has lost another one"):
            ranks.add([torch.ones(4)])
        return time.monotonic() - started

    results = several(3, work)
    assert results.pop(lost) is None
    assert max(results) < 10  # seconds; at rest a hundredth of one


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "more than there are": (lambda: join(torch.device("mps"), 2, 1), "compute.devices: 2, but this machine has 1 of kind mps"),
    "no way to the first": (lambda: join(CPU, 1, 2), "compute.nodes: 2, but MASTER_ADDR, MASTER_PORT, NODE_RANK is not in the environment"),
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


def test_processes_that_were_started_without_the_knobs_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"compute\.devices: 1 and compute\.nodes: 1, but 4 processes were started"):
        join(CPU, 1, 1)
