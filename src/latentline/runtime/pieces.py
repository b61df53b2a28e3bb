"""A long job cut into numbered pieces, so that a killed run continues and several processes can share it.

Each piece is a function of its number alone. Those that are done lie in the stage's state (``runtime/resume.py``), many to a file, until the
stage has written its outs; a run that ends before the first save writes none.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from latentline.core.arrays import load_arrays
from latentline.core.interrupt import InterruptedRunError, deferred_interrupts
from latentline.runtime.parallel import ALONE, Ranks
from latentline.runtime.resume import ResumeFile

_FILE, _FILES = "pieces-{:08d}.safetensors", "pieces-*.safetensors"  # by the first piece in it
_MOST_BYTES = 256 << 20  # of finished pieces that wait in memory for the next save
Piece = dict[str, Tensor]
Make = Callable[[int], Piece]
"""The number of a piece -> the piece; nothing else may shape it."""

log = logging.getLogger(__name__)


class Pieces:
    """The pieces of one job; see :func:`kept_pieces`.

    Args:
        file: where they are kept.
        every_seconds: between two saves.
        stop_wanted: whether this process was asked to stop.
        ranks: the processes that share the job.
    """

    def __init__(self, file: ResumeFile, every_seconds: float, stop_wanted: Callable[[], bool], ranks: Ranks) -> None:
        self.made = 0
        """Pieces that this run has made, and not found."""
        self._file, self._every_seconds, self._stop_wanted, self._ranks = file, every_seconds, stop_wanted, ranks
        self._saved: dict[int, Path] = {}
        self._seen: set[Path] = set()  # files that were looked into
        self._opened: tuple[Path, dict[int, Piece]] | None = None  # the last file that was read
        self._waiting: dict[int, Piece] = {}  # made since the last save
        self._waiting_bytes = 0
        self._last_save = time.monotonic()
        self._find()
        if self._saved:
            log.info("resumed %s with %d pieces", file.stage, len(self._saved))

    def each(self, count: int, make: Make) -> Iterator[Piece]:
        """All ``count`` pieces in order: those that are there, and the others made when they are asked for.

        Several processes first make and save them all, each its share, before this returns; and it returns to the first alone: the others end.

        Raises:
            InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
            LostRankError: another process has ended too early.
        """
        if self._ranks.count > 1:
            self._ranks.wait()  # else what a faster process saves now would count as found
            there = len(self._saved)
            for number in range(self._ranks.number, count, self._ranks.count):
                if number not in self._saved:
                    self._make(number, make)
            self.save()
            self._ranks.wait()
            self._ranks.dismiss()
            self._find()
            self.made = count - there
        return self._in_order(count, make)

    def _in_order(self, count: int, make: Make) -> Iterator[Piece]:
        for number in range(count):
            yield self._read(number) if number in self._saved else self._make(number, make)

    def save(self) -> None:
        """Put all that is done on disk."""
        if self._waiting:
            file = _FILE.format(min(self._waiting))
            tensors = {f"{number}/{name}": tensor for number, piece in self._waiting.items() for name, tensor in piece.items()}
            self._file.write(file, tensors, {"pieces": list(self._waiting)})
            self._seen.add(self._file.folder / file)
            self._saved |= dict.fromkeys(self._waiting, self._file.folder / file)
            self._waiting, self._waiting_bytes = {}, 0
        self._last_save = time.monotonic()

    def _find(self) -> None:
        """Learn of pieces that others or an earlier run have saved."""
        for path in sorted(set(self._file.folder.glob(_FILES)) - self._seen):
            self._seen.add(path)
            if saved := self._file.read(path):
                self._saved |= dict.fromkeys(saved[1]["pieces"], path)

    def _make(self, number: int, make: Make) -> Piece:
        piece = self._waiting[number] = make(number)
        self.made += 1
        self._waiting_bytes += sum(tensor.nbytes for tensor in piece.values())
        if self._stop_wanted() or time.monotonic() - self._last_save > self._every_seconds or self._waiting_bytes > _MOST_BYTES:
            self.save()
        if self._stop_wanted():
            raise InterruptedRunError
        return piece

    def _read(self, number: int) -> Piece:
        path = self._saved[number]
        if self._opened is None or self._opened[0] != path:
            pieces: dict[int, Piece] = {}
            for key, tensor in load_arrays(path, self._file.stage, verify=False)[0].items():  # verified when they were found
                at, name = key.split("/")
                pieces.setdefault(int(at), {})[name] = tensor
            self._opened = path, pieces
        return self._opened[1][number]


@contextmanager
def kept_pieces(file: ResumeFile, every_seconds: float, ranks: Ranks = ALONE) -> Iterator[Pieces]:
    """The pieces of a job, those of an interrupted run too; within the block Ctrl-C and SIGTERM end the job after the piece under way.

    Args:
        file: where they are kept; ``file.finish()`` forgets them, once the stage has written its outs.
        every_seconds: between two saves: no more work is lost, and the piece under way.
        ranks: the processes that share the job, on machines that share the folder of ``file``: piece i is made by process i % their number.

    Raises:
        UserError: another run of the same job is under way.
        InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
    """
    file.claim(ranks.number)
    with deferred_interrupts() as stop_wanted:
        pieces = Pieces(file, every_seconds, stop_wanted, ranks)
        yield pieces
        if stop_wanted():
            pieces.save()
            raise InterruptedRunError
