"""Several processes that talk to each other, for tests: forked, so that they start in milliseconds and know all that the test knows."""

import os
import pickle
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed

from latentline.runtime.parallel import Ranks

_PATIENCE = timedelta(seconds=60)


def several(count: int, work: Callable[[Ranks], Any], *, sharded: bool = False) -> list[Any]:
    """What ``work`` returns, or the exception that it raises, in each of ``count`` processes; None of one that ended in the middle of it.

    ``sharded``: whether they divide a training's weights.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes = [_start(Ranks(number, count, sharded=sharded), folder, work) for number in range(count)]
        for process in processes:
            os.waitpid(process, 0)
        files = [folder / str(number) for number in range(count)]
        return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]  # noqa: S301 - written by _start


def _start(ranks: Ranks, folder: Path, work: Callable[[Ranks], Any]) -> int:
    if child := os.fork():
        return child
    try:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group("gloo", init_method=store, rank=ranks.number, world_size=ranks.count, timeout=_PATIENCE)
        try:
            result = work(ranks)
        except Exception as error:
            result = error
        (folder / str(ranks.number)).write_bytes(pickle.dumps(result))
    finally:
        os._exit(0)  # without pytest's own end
