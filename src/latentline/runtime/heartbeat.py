"""Notice that a process of the run has ended while this one waits where no error reaches it.

Under NCCL a process waits for its GPU, which waits for the data of the others. There the end of another process raises
nothing before the collectives' timeout. So each process counts up in the store that all of them share, from a thread,
and watches the counts of the others. A process that validates or writes for an hour still counts.
"""

import atexit
import subprocess
import threading
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from latentline.core.interrupt import LostRankError

_KEY = "heartbeat/{}"
_INTERVAL = 10.0  # seconds between two beats
_SILENT_INTERVALS = 18  # counted, not timed, since a whole run may be suspended and go on
_JOIN_SECONDS = 5.0


class Heartbeat:
    """Beats for this process, and ends the run when another process no longer beats.

    A thread raises LostRankError, which :data:`threading.excepthook` receives: that of ``core/stage.py`` prints one
    line and ends the process, since the main thread may wait for a GPU without end.

    Args:
        store: shared by the processes; a connection of its own is opened.
        number: rank of this process.
        count: world size.
        before_error: called before the error, to end the processes that this one started.
        interval: seconds between two beats.
    """

    def __init__(
        self, store: Store, number: int, count: int, before_error: Callable[[], None], interval: float = _INTERVAL
    ) -> None:
        self._store, self._number, self._before_error, self._interval = store.clone(), number, before_error, interval
        self._beats = [0] * count  # of each process, as read last
        self._watching, self._stopped = True, threading.Event()
        # Two threads, since the store does not answer once the machine of rank 0 has vanished.
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()
        atexit.register(self._stop)

    def stop_watching(self) -> None:
        """Go on beating, but let the other processes end."""
        self._watching = False

    def _beat(self) -> None:
        """Count up, and read the counts of the others, until the process or the store ends."""
        while not self._stopped.wait(self._interval):
            try:
                for process in range(len(self._beats)):
                    self._beats[process] = self._store.add(_KEY.format(process), int(process == self._number))
            except RuntimeError:
                return

    def _watch(self) -> None:
        """Compare the counts of the others with those of an interval before.

        Raises:
            LostRankError: a count has not changed for long.
        """
        before = list(self._beats)
        silent = [0] * len(before)  # intervals
        while not self._stopped.wait(self._interval) and self._watching:
            for process, beats in enumerate(self._beats):
                silent[process] = silent[process] + 1 if beats == before[process] else 0
                before[process] = beats
                if process != self._number and silent[process] >= _SILENT_INTERVALS:
                    self._before_error()
                    raise LostRankError(
                        f"process {self._number} of {len(before)} has lost another one (process {process} has given "
                        f"no sign of life for {_SILENT_INTERVALS * self._interval:.0f} s)"
                    )

    def _stop(self) -> None:
        """End the threads before the interpreter ends, which a thread inside the store's code would abort."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)


def kill_at_exit(started: list[subprocess.Popen[bytes]]) -> Callable[[], None]:
    """Kill the started processes when this one ends, and return what does it.

    After a SIGKILL of this one they end by LostRankError.
    """

    def end() -> None:
        for process in started:
            process.kill()
            process.wait()

    atexit.register(end)
    return end
