"""A process that waits without an error ends when another one has stopped beating."""

import os
import threading
import time
from pathlib import Path

import torch
import torch.distributed

from latentline.runtime.heartbeat import Heartbeat
from latentline.runtime.parallel import Ranks
from support.several import several

INTERVAL = 0.05  # seconds


def _heartbeat(ranks: Ranks) -> Heartbeat:
    store = torch.distributed.distributed_c10d._get_default_store()
    return Heartbeat(store, ranks.number, ranks.count, lambda: None, INTERVAL)


def _until(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


def test_processes_that_wait_in_a_collective_end_when_one_is_silent_and_keeps_its_connection(tmp_path):
    def work(ranks: Ranks) -> None:
        def end(raised: threading.ExceptHookArgs) -> None:
            (tmp_path / f"{ranks.number}").write_text(f"{raised.exc_type.__name__}: {raised.exc_value}")
            _until(tmp_path / f"{2 - ranks.number}")  # else the other may notice the end of this one first
            os._exit(3)

        threading.excepthook = end
        ranks.barrier()
        if ranks.number == 1:  # never beats, and ends last
            for other in (0, 2):
                _until(tmp_path / f"{other}")
            time.sleep(0.5)
            return
        _heartbeat(ranks)
        ranks.all_reduce([torch.ones(3)])  # waits without end

    several(3, work)
    for number in (0, 2):
        line = (tmp_path / f"{number}").read_text()
        assert line.startswith(
            f"LostRankError: process {number} of 3 has lost another one (process 1 has given no sign"
        )


def test_processes_that_beat_are_left_alone_and_may_end_when_nobody_watches():
    def work(ranks: Ranks) -> str:
        errors: list[object] = []
        threading.excepthook = lambda raised: errors.append(raised.exc_value)
        heartbeat = _heartbeat(ranks)
        time.sleep(25 * INTERVAL)  # a validation that is long beside the silence that is allowed
        ranks.barrier()
        heartbeat.stop_watching()
        ranks.barrier()
        if ranks.is_main:
            time.sleep(25 * INTERVAL)
        return str(errors)

    assert several(2, work) == ["[]", "[]"]


def test_the_threads_end_before_the_process_does():
    def work(ranks: Ranks) -> bool:
        heartbeat = _heartbeat(ranks)
        heartbeat._stop()
        return any(thread.is_alive() for thread in heartbeat._threads)

    assert several(2, work) == [False, False]
