"""Several connected processes for tests: forked, so that they start in milliseconds with all objects of the test."""

import faulthandler
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed

from latentline.runtime.parallel import Ranks

_PATIENCE = timedelta(seconds=60)


def several(count: int, work: Callable[[Ranks], Any], *, sharded: bool = False) -> list[Any]:
    """Run ``work`` in each of ``count`` processes.

    Args:
        count: processes.
        work: receives the process's ranks.
        sharded: whether the processes shard a training's weights.

    Returns:
        For each process what ``work`` returned or the exception that it raised; None where the process ended early.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes = [_start(Ranks(number, count, sharded=sharded), folder, work) for number in range(count)]
        for process in processes:
            os.waitpid(process, 0)
        files = [folder / str(number) for number in range(count)]
        # S301: written by _start
        return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]  # noqa: S301


def _start(ranks: Ranks, folder: Path, work: Callable[[Ranks], Any]) -> int:
    if child := os.fork():
        return child
    # A fork beside other threads may hang: then it prints where and ends.
    faulthandler.dump_traceback_later(2 * _PATIENCE.total_seconds(), exit=True, file=sys.__stderr__)
    try:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group(
            "gloo", init_method=store, rank=ranks.number, world_size=ranks.count, timeout=_PATIENCE
        )
        try:
            result = work(ranks)
        except Exception as error:
            result = error
        (folder / str(ranks.number)).write_bytes(pickle.dumps(result))
    finally:
        os._exit(0)  # without the end of pytest's session
