"""Long jobs in numbered chunks, so that a killed run continues and several processes can share the job.

Each chunk depends on its number alone. Finished chunks lie in the stage's state (``runtime/resume.py``), many to a
file, until the stage has written its outs. A run that ends before the first save writes no chunk.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from latentline.core.arrays import load_arrays
from latentline.core.interrupt import InterruptedRunError, deferred_interrupts
from latentline.core.progress import with_progress
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.runtime.resume import CHUNK_FILES, ResumeFile

_FILE = "chunks-{:08d}.safetensors"  # by the first chunk in it
_MAX_BYTES = 256 << 20  # of finished chunks in memory before the next save
Chunk = dict[str, Tensor]
"""Arrays by name; a name holds no ``/``."""
Compute = Callable[[int], Chunk]
"""Number of a chunk -> the chunk; nothing else may shape it."""


class ResumableMap:
    """The chunks of one job; see :func:`resumable_map`.

    Args:
        file: where finished chunks are stored.
        every_seconds: time between two saves.
        stop_requested: returns whether a signal has asked this process to stop.
        ranks: the processes that share the job.
    """

    def __init__(
        self, file: ResumeFile, every_seconds: float, stop_requested: Callable[[], bool], ranks: Ranks
    ) -> None:
        self.computed = 0
        """Chunks that this run has computed, not loaded."""
        self._file, self._every_seconds, self._stop_requested, self._ranks = file, every_seconds, stop_requested, ranks
        self._saved: dict[int, Path] = {}
        self._scanned: set[Path] = set()
        self._open_file: tuple[Path, dict[int, Chunk]] | None = None  # the file that was read last
        self._unsaved: dict[int, Chunk] = {}
        self._unsaved_bytes = 0
        self._last_save = time.monotonic()
        self._scan()
        self.found = len(self._saved)
        """Chunks that an earlier run has computed."""
        if ranks.is_main:
            file.log_start(self.found)

    def map(self, count: int, compute: Compute) -> Iterator[Chunk]:
        """Return chunks 0 to ``count`` - 1 in order: stored ones, and the others computed when they are asked for.

        Several processes first compute and save all chunks, rank r those with number % world size = r. Then rank 0
        alone returns; the others exit.

        Raises:
            InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
            LostRankError: another process has ended too early.
        """
        if self._ranks.count > 1:
            self._ranks.barrier()  # else a slower process would count a chunk that this one saves now as found
            own = range(self._ranks.number, count, self._ranks.count)
            missing = [number for number in own if number not in self._saved]
            for number in with_progress(missing, len(missing), "chunks of a process", shown=self._ranks.is_main):
                self._compute(number, compute)
            self.save()
            self._ranks.barrier()
            self._ranks.exit_non_main()
            self._scan()
            self.computed = count - self.found
        return self.of(range(count), compute)

    def of(self, numbers: Sequence[int], compute: Compute) -> Iterator[Chunk]:
        """Return the chunks ``numbers`` in order, each when it is asked for, whatever other processes do.

        Raises:
            InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
        """
        for number in numbers:
            self.stop_if_requested()  # what is done with stored chunks may take long, too
            yield self._read(number) if number in self._saved else self._compute(number, compute)

    def count_found(self, numbers: Iterable[int]) -> int:
        """Return how many of the chunks ``numbers`` an earlier run has computed."""
        return sum(number in self._saved for number in numbers)

    def save(self) -> None:
        """Write all finished chunks to disk. Each is written once, so many saves cost little more than one."""
        if self._unsaved:
            name = _FILE.format(min(self._unsaved))
            tensors = {
                f"{number}/{key}": tensor for number, chunk in self._unsaved.items() for key, tensor in chunk.items()
            }
            self._file.write(name, tensors, {"chunks": list(self._unsaved)})
            self._scanned.add(self._file.folder / name)
            self._saved |= dict.fromkeys(self._unsaved, self._file.folder / name)
            self._unsaved, self._unsaved_bytes = {}, 0
        self._last_save = time.monotonic()

    def _scan(self) -> None:
        """Find the chunks that an earlier run or another process has saved."""
        for path in sorted(set(self._file.folder.glob(CHUNK_FILES)) - self._scanned):
            self._scanned.add(path)
            if saved := self._file.read(path):
                self._saved |= dict.fromkeys(saved[1]["chunks"], path)

    def _compute(self, number: int, compute: Compute) -> Chunk:
        chunk = self._unsaved[number] = compute(number)
        self.computed += 1
        self._unsaved_bytes += sum(tensor.nbytes for tensor in chunk.values())
        save_due = time.monotonic() - self._last_save > self._every_seconds
        if save_due or self._unsaved_bytes > _MAX_BYTES:
            self.save()
        self.stop_if_requested()
        return chunk

    def stop_if_requested(self) -> None:
        """Save, and raise InterruptedRunError, if a signal has come."""
        if self._stop_requested():
            self.save()
            raise InterruptedRunError

    def _read(self, number: int) -> Chunk:
        path = self._saved[number]
        if self._open_file is None or self._open_file[0] != path:
            chunks: dict[int, Chunk] = {}
            for key, tensor in load_arrays(path, self._file.stage, verify=False)[0].items():  # verified by _scan
                index, name = key.split("/")
                chunks.setdefault(int(index), {})[name] = tensor
            self._open_file = path, chunks
        return self._open_file[1][number]


@contextmanager
def resumable_map(file: ResumeFile, every_seconds: float, ranks: Ranks = SINGLE_PROCESS) -> Iterator[ResumableMap]:
    """Yield the chunks of a job, with those of an interrupted run.

    Within the block Ctrl-C and SIGTERM end the job after the current chunk, and what is done with it.

    Args:
        file: where finished chunks are stored; ``file.finish()`` deletes them, once the stage has written its outs.
        every_seconds: time between two saves. A kill loses at most this much work, and the current chunk.
        ranks: the processes that share the job, on machines that share the folder of ``file``.

    Raises:
        UserError: another run of the same job is under way.
        InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
    """
    file.claim(ranks.number)
    with deferred_interrupts() as stop_requested:
        chunks = ResumableMap(file, every_seconds, stop_requested, ranks)
        yield chunks
        chunks.stop_if_requested()
