"""Saves in the background: of a copy, seldom, whole or not at all, and with their errors raised in the training."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from latentline.core import arrays
from latentline.runtime.parallel import Ranks
from latentline.runtime.resume import ResumeFile
from latentline.runtime.state_saver import Capture, State, StateSaver


def _file() -> ResumeFile:
    return ResumeFile("train_x", {"lr": 1e-3}, ())


def _state(step: int, weight: Tensor | None = None) -> Capture:
    return lambda: ({"w": torch.full((3, 2), float(step)) if weight is None else weight}, {"step": step})


def _stored() -> tuple[list[float], int] | None:
    """Return the weights and the step of the state that a run would continue from."""
    saved: State | None = _file().read(_file().folder / "state.safetensors")
    return saved and (saved[0]["w"].flatten().tolist(), saved[1]["step"])


@pytest.fixture
def held(monkeypatch) -> Iterator[threading.Event]:
    """Hold back all writes until the event is set."""
    event, save = threading.Event(), ResumeFile.save
    monkeypatch.setattr(ResumeFile, "save", lambda *arguments: (event.wait(10), save(*arguments)))
    yield event
    event.set()


def test_the_state_is_written_as_it_was_while_the_training_goes_on(workplace, held):
    weight = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    with StateSaver(_file(), 0.0) as saver:
        saver.save(_state(1, weight))
        weight.zero_()
        assert not saver.due()  # while a write is under way
        assert _stored() is None
        held.set()
    assert _stored() == ([0, 3, 1, 4, 2, 5], 1)


def test_the_next_save_takes_no_more_memory(workplace):
    with StateSaver(_file(), 0.0) as saver:
        saver.save(_state(1))
        copies = {name: copy.data_ptr() for name, copy in saver._copies.items()}
        saver.save(_state(2))
        saver.save_and_wait(_state(3))
        assert copies == {name: copy.data_ptr() for name, copy in saver._copies.items()}
    assert _stored() == ([3.0] * 6, 3)


def test_what_waits_is_written_when_it_returns_and_after_the_write_under_way(workplace, held):
    threading.Timer(0.05, held.set).start()
    with StateSaver(_file(), 0.0) as saver:
        saver.save(_state(1))
        saver.save_extension_point(_state(2))
        assert _stored() == ([1.0] * 6, 1)
        saver.save_and_wait(_state(3))
        assert _stored() == ([3.0] * 6, 3)
    assert {path.name for path in _file().folder.glob("*.safetensors")} == {"state.safetensors", "kept.safetensors"}


def test_two_saves_are_at_least_fifty_times_the_cost_of_the_first_apart(workplace, monkeypatch):
    now, processor = [0.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", lambda: processor[0])
    save = ResumeFile.save

    def slow_save(*arguments) -> None:
        save(*arguments)
        processor[0] += 1.5  # of the thread: the training on the CPU lacks it

    def slow_capture() -> State:
        now[0] += 0.5
        return _state(1)()

    monkeypatch.setattr(ResumeFile, "save", slow_save)
    with StateSaver(_file(), 10.0) as saver:
        assert not saver.due()
        now[0] = 10.5
        assert saver.due()
        saver.save(slow_capture)
        now[0] += 100.0  # 50 times 0.5 + 1.5
        saver._wait()
        assert not saver.due()
        now[0] += 0.5
        assert saver.due()


def _fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("act", [StateSaver.due, lambda saver: saver.save(_state(3)), lambda saver: None])
def test_an_error_of_the_thread_is_raised_in_the_training_and_the_state_before_stays(
    workplace, monkeypatch, act: Callable[[StateSaver], object]
):
    with pytest.raises(OSError, match="No space left"), StateSaver(_file(), 0.0) as saver:
        saver.save(_state(1))
        saver._wait()
        monkeypatch.setattr(arrays, "save_file", _fail)
        saver.save(_state(2))
        while not saver._write.done():
            time.sleep(0.001)
        act(saver)
    assert _stored() == ([1.0] * 6, 1)
    assert not list(_file().folder.glob(".partial-*"))


def test_an_error_of_the_training_is_not_replaced_by_one_of_the_thread(workplace, monkeypatch):
    monkeypatch.setattr(arrays, "save_file", _fail)
    with pytest.raises(ZeroDivisionError), StateSaver(_file(), 0.0) as saver:
        saver.save(_state(1))
        _ = 1 / 0


def test_other_ranks_take_part_and_write_nothing(workplace):
    captured = []
    with StateSaver(_file(), 0.0, Ranks(1, 2)) as saver:
        assert not saver.due()
        for save in (saver.save, saver.save_and_wait, saver.save_extension_point, saver.save_at_finish):
            save(lambda: captured.append(1) or _state(1)())
    assert len(captured) == 4
    assert not _file().folder.exists()


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_state_before(workplace, monkeypatch):
    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        try:
            with StateSaver(_file(), 0.0) as saver:
                saver.save(_state(1))
                saver._wait()

                def half(tensors, path, meta) -> None:
                    path.write_bytes(b"half of it")
                    os.write(writer, b"x")
                    time.sleep(60)

                monkeypatch.setattr(arrays, "save_file", half)
                saver.save(_state(2))
                time.sleep(60)
        finally:
            os._exit(1)
    assert os.read(reader, 1) == b"x"
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert [path.name for path in _file().folder.glob(".partial-*")] == [".partial-state.safetensors"]
    assert _stored() == ([1.0] * 6, 1)
    with StateSaver(_file(), 0.0) as saver:
        saver.save(_state(2))
    assert _stored() == ([2.0] * 6, 2)
    assert not list(_file().folder.glob(".partial-*"))
