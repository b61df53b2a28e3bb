"""A job in chunks, killed at each of them in each way, continues and computes no chunk twice."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.runtime import resumable_map as module
from latentline.runtime.parallel import Ranks
from latentline.runtime.resumable_map import Chunk, ResumableMap, resumable_map
from latentline.runtime.resume import ResumeFile
from support.several import several

COUNT = 7
IDENTITY = {"settings": {"count": COUNT}}


class Job:
    """Chunks of several arrays; remembers which were made, and fails at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.made: list[int] = []
        self.fail_at = fail_at

    def __call__(self, number: int) -> Chunk:
        if number == self.fail_at:
            raise RuntimeError("killed")
        self.made.append(number)
        draw = torch.Generator().manual_seed(number)
        return {"x": torch.randn(number + 1, 3, generator=draw), "labels": torch.arange(number)}


class Slow(Job):
    """Writes the number of each chunk to a pipe before it, and never ends the last."""

    def __init__(self, pipe: int, last: int) -> None:
        super().__init__()
        self.pipe, self.last = pipe, last

    def __call__(self, number: int) -> Chunk:
        os.write(self.pipe, bytes([number]))
        time.sleep(60 if number == self.last else 0)
        return super().__call__(number)


def _run(job: Job, every_seconds: float = 0.0, identity=IDENTITY) -> list[Chunk]:
    with resumable_map(ResumeFile("sample", identity, ()), every_seconds) as chunks:
        return list(chunks.map(COUNT, job))


def _equal(some: list[Chunk], others: list[Chunk]) -> bool:
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        for one, other in zip(some, others, strict=True)
    )


@pytest.fixture
def whole(workplace) -> list[Chunk]:
    return _run(Job(), every_seconds=1000.0, identity={"another": "run"})  # which saves nothing


@pytest.mark.parametrize("killed_at", range(COUNT))
def test_a_run_that_fails_at_any_chunk_continues_there_and_ends_with_the_same(whole, killed_at, caplog):
    first, second = Job(fail_at=killed_at), Job()
    with pytest.raises(RuntimeError, match="killed"):
        _run(first)
    with caplog.at_level(logging.INFO):
        assert _equal(_run(second), whole)
    assert first.made == list(range(killed_at))
    assert second.made == list(range(killed_at, COUNT))
    assert caplog.messages == ([f"resumed sample with {killed_at} chunks"] if killed_at else [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("killed_at", [0, 3, COUNT - 1])
def test_a_signal_ends_the_run_after_the_chunk_under_way_which_is_not_lost(whole, number, killed_at):
    class Signalled(Job):
        def __call__(self, at: int) -> Chunk:
            if at == killed_at:
                os.kill(os.getpid(), number)
            return super().__call__(at)

    first, second = Signalled(), Job()
    with pytest.raises(InterruptedRunError):
        _run(first, every_seconds=1000.0)
    assert first.made == list(range(killed_at + 1))
    assert _equal(_run(second), whole)
    assert second.made == list(range(killed_at + 1, COUNT))


def test_a_signal_after_the_last_chunk_ends_the_run_too(whole):
    job = Job()
    with pytest.raises(InterruptedRunError), resumable_map(ResumeFile("sample", IDENTITY, ()), 1000.0) as chunks:
        assert len(list(chunks.map(COUNT, job))) == COUNT
        os.kill(os.getpid(), signal.SIGTERM)
    assert _equal(_run(second := Job()), whole)
    assert second.made == []


def test_a_signal_while_stored_chunks_are_in_use_ends_the_run_before_the_next(whole):
    with pytest.raises(RuntimeError):
        _run(Job(fail_at=COUNT - 1))
    used = []
    with (
        pytest.raises(InterruptedRunError),
        resumable_map(ResumeFile("sample", IDENTITY, ()), 0.0) as chunks,
    ):
        for chunk in chunks.map(COUNT, Job()):
            used.append(chunk)
            os.kill(os.getpid(), signal.SIGTERM)
    assert len(used) == 1
    assert _equal(_run(Job()), whole)


def test_a_process_that_is_killed_outright_loses_the_chunk_under_way_at_most(whole):
    made: list[int] = []
    for killed_at in range(1, COUNT):
        reader, writer = os.pipe()
        if (process := os.fork()) == 0:
            _run(Slow(writer, killed_at))
            os._exit(1)
        begun = [os.read(reader, 1)[0]]
        while begun[-1] != killed_at:
            begun += os.read(reader, 1)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        made += begun
    assert made == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    job = Job()
    assert _equal(_run(job), whole)
    assert job.made == [6]


def test_a_run_that_ends_before_the_first_save_writes_nothing(workplace):
    _run(Job(), every_seconds=1000.0)
    assert [path.name for path in (workplace / ".state").rglob("*") if path.is_file()] == ["lock"]


def test_saves_are_as_far_apart_as_asked_for_and_never_of_more_than_so_many_bytes(workplace, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Clocked(Job):
        def __call__(self, number: int) -> Chunk:
            now[0] += 2.0
            return super().__call__(number)

    _run(Clocked(), every_seconds=5.0)
    assert sorted(path.name for path in (workplace / ".state").rglob("chunks-*")) == [
        f"chunks-{number:08d}.safetensors" for number in (0, 3)
    ]
    monkeypatch.setattr(module, "_MAX_BYTES", 100)
    _run(Job(), every_seconds=1000.0, identity={"another": "run"})
    assert len(list((workplace / ".state").rglob("chunks-*"))) > 2 + 2


def test_a_damaged_file_of_chunks_is_left_aside_and_they_are_made_again(whole, caplog):
    with pytest.raises(RuntimeError):
        _run(Job(fail_at=5))
    files = sorted(ResumeFile("sample", IDENTITY, ()).folder.glob("chunks-*"))
    assert len(files) == 5
    content = bytearray(files[2].read_bytes())
    content[-1] ^= 1
    files[2].write_bytes(content)
    files[3].write_bytes(b"")
    job = Job()
    assert _equal(_run(job), whole)
    assert job.made == [2, 3, 5, 6]
    assert [message.split(":")[0] for message in caplog.messages] == ["left aside"] * 2


def test_chunks_of_another_run_are_never_used(workplace):
    _run(Job())
    job = Job()
    _run(job, identity={"settings": {"count": COUNT, "steps": 3}})
    assert job.made == list(range(COUNT))


def test_two_runs_of_the_same_job_do_not_go_on_at_once(workplace):
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + (
        "from pathlib import Path; from latentline.runtime.lock import lock; "
        "lock(Path(sys.argv[1]), ''); print('held', flush=True); sys.stdin.read()"
    )
    state = ResumeFile("sample", IDENTITY, ())
    command = [sys.executable, "-c", program, str(state.folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=r"sample with the same settings, inputs and code runs already"),
            resumable_map(state, 1.0),
        ):
            pass
        other.kill()
    assert len(_run(Job())) == COUNT


@pytest.mark.parametrize("count", [2, 3, 10])
def test_several_processes_make_each_chunk_once_and_the_first_reads_all_of_them(whole, workplace, count):
    def work(ranks: Ranks) -> tuple[list[Chunk], int]:
        with resumable_map(ResumeFile("sample", IDENTITY, ()), 1000.0, ranks) as chunks:
            numbers = []

            def make(number: int) -> Chunk:
                numbers.append(number)
                (workplace / f"made_{ranks.number}").write_text(json.dumps(numbers))
                return Job()(number)

            return list(chunks.map(COUNT, make)), chunks.computed

    first, *others = several(count, work)
    assert _equal(first[0], whole)
    assert first[1] == COUNT
    assert others == [None] * (count - 1)  # they have ended
    made = [
        json.loads(path.read_text()) if (path := workplace / f"made_{number}").exists() else []
        for number in range(count)
    ]
    assert made == [list(range(number, COUNT, count)) for number in range(count)]


def test_chunks_of_one_process_are_found_again_and_no_others_are_made(whole):
    for first in (True, False):
        with resumable_map(ResumeFile("sample", IDENTITY, ()), 1000.0) as chunks:
            assert chunks.count_found([1, 3]) == (0 if first else 2)
            job = Job()
            assert _equal(list(chunks.of([1, 3], job)), [whole[1], whole[3]])
            assert job.made == ([1, 3] if first else [])
            chunks.save()


@pytest.mark.parametrize("found", ["nothing", "chunks", "a state"])
def test_before_a_training_the_log_says_once_how_it_starts(workplace, found, caplog):
    ResumeFile("sample", {"another": "run"}, ()).save({}, {})
    if found == "a state":
        ResumeFile("sample", IDENTITY, ()).save({}, {})
    elif found == "chunks":
        with resumable_map(ResumeFile("sample", IDENTITY, ()), 1000.0) as chunks:
            list(chunks.of([0], Job()))
            chunks.save()
    state = ResumeFile("sample", IDENTITY, ())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        with resumable_map(state, 1000.0):
            pass
        state.load()
    expected = {"nothing": ["starts anew"], "chunks": ["resumed sample with 1 chunks"], "a state": []}
    assert [message.split(":")[0] for message in caplog.messages] == expected[found]


def test_where_a_process_ends_too_early_the_others_raise_and_what_they_made_stays(whole):
    def work(ranks: Ranks) -> None:
        with resumable_map(ResumeFile("sample", IDENTITY, ()), 0.0, ranks) as chunks:
            chunks.map(COUNT, Job(fail_at=5 if ranks.number else None))

    first, other = several(2, work)
    assert isinstance(first, LostRankError)
    assert str(other) == "killed"
    job = Job()
    assert _equal(_run(job), whole)
    assert job.made == [5]


def test_another_number_of_processes_continues_with_what_is_there(whole):
    several(1, lambda ranks: _run(Job(fail_at=4)))  # a process of its own, which lets go of its lock

    def work(ranks: Ranks) -> tuple[list[Chunk], int]:
        with resumable_map(ResumeFile("sample", IDENTITY, ()), 1000.0, ranks) as chunks:
            return list(chunks.map(COUNT, Job())), chunks.computed

    first, _ = several(2, work)
    assert _equal(first[0], whole)
    assert first[1] == COUNT - 4


def test_finishing_forgets_all(workplace):
    state = ResumeFile("sample", IDENTITY, ())
    with resumable_map(state, 0.0) as chunks:
        assert isinstance(chunks, ResumableMap)
        list(chunks.map(COUNT, Job()))
    state.finish()
    assert not list((workplace / ".state" / "sample").iterdir())
