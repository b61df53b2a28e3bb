"""Where a running stage keeps its state, so that a killed run continues.

The state lies outside DVC's outs, which DVC deletes when a stage starts, and under the main checkout even when
``dvc exp run --temp`` runs in a copy (DVC_ROOT). Its key covers all that shapes the run: code, inputs and knobs.

Of a training three states: that of the run which goes on; the last one of a run that has ended, since a kill may still come before DVC has
recorded its outs; and one from which a longer run may continue. Of a job without an order, such as sampling, the pieces that are done
(``runtime/pieces.py``).
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import canonical_json, sha256_bytes, sha256_file
from latentline.runtime.lock import lock

_KIND = "state"
_RUNNING, _ENDED, _KEPT = "state.safetensors", "ended.safetensors", "kept.safetensors"
_MOST_BYTES = 2 << 30  # that the states of a stage's ended runs may take; of more the oldest go
log = logging.getLogger(__name__)


class ResumeFile:
    """The saved state of one run of a stage, or of none yet.

    ``folder`` is free for other files that must outlive a restart, such as pictures drawn on the way. From :meth:`load` or :meth:`claim`
    to :meth:`finish`, or to the end of the process, no other process may use it.

    Args:
        stage: DVC stage.
        identity: the knobs and input digests (JSON) that shape the run.
    """

    def __init__(self, stage: str, identity: dict[str, Any]) -> None:
        self._key = sha256_bytes(canonical_json({**identity, "code": _code_digests()}).encode())[:16]
        self.folder = Path(os.environ.get("DVC_ROOT", ".")) / ".state" / stage / self._key
        self._lock: int | None = None
        self.stage = stage

    def load(self, usable: Callable[[dict[str, Any]], bool] = lambda meta: True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What :meth:`save` wrote last, else what :meth:`keep` did; None when neither is ``usable``.

        Raises UserError when another process trains from or to this state.
        """
        self.claim()
        for name in (_RUNNING, _ENDED, _KEPT):
            saved = self.read(self.folder / name)
            if saved and usable(saved[1]):
                return saved
        return None

    def claim(self, rank: int = 0) -> None:
        """Lock the state for this process, ``rank`` of those that share the run. Raises UserError when another run of it has it."""
        if self._lock is None:
            self._lock = lock(self.folder / ("lock" if rank == 0 else f"lock-{rank}"), f"{self.stage} with the same knobs, inputs and code")

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What :meth:`write` wrote to ``path``, verified; None where there is nothing or nothing usable: the log says so."""
        if not path.exists():
            return None
        try:
            tensors, meta = load_arrays(path, self.stage, kind=_KIND)
        except UserError as error:
            log.warning("left aside: %s", error)
            return None
        if meta["key"] != self._key:
            log.warning("left aside: %s is the state of another run", path)
            return None
        return tensors, meta["state"]

    def save(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Replace the state of the run that goes on, whole or not at all."""
        self.write(_RUNNING, tensors, meta)

    def keep(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Replace the state that is kept after the run's end."""
        self.write(_KEPT, tensors, meta)

    def write(self, name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Write a file of the state, whole or not at all."""
        save_arrays(self.folder / name, tensors, {"kind": _KIND, "key": self._key, "state": meta})

    def finish(self) -> None:
        """The stage has written its outs. What was saved stays; where the states of ended runs take too much room, the oldest go."""
        if (running := self.folder / _RUNNING).exists():
            running.replace(self.folder / _ENDED)
        if not any((self.folder / name).exists() for name in (_ENDED, _KEPT)):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        left = _MOST_BYTES
        ended = (path for name in (_ENDED, _KEPT) for path in self.folder.parent.glob(f"*/{name}"))
        for path in sorted(ended, key=lambda path: path.stat().st_mtime, reverse=True):
            left -= path.stat().st_size
            if left < 0:
                path.unlink()


def _code_digests() -> dict[str, str]:
    """sha256 of each module of this project that is loaded."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name.split(".")[0] == "latentline"}
    return {name: sha256_file(Path(file)) for name, file in files.items() if file}
