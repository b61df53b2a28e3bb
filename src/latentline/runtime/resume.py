"""Where a running training keeps its state, so that a killed run continues.

The state lies outside DVC's outs, which DVC deletes when a stage starts, and under the main checkout even when
``dvc exp run --temp`` runs in a copy (DVC_ROOT). Its key covers all that shapes the run: code, inputs and knobs.
"""

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from latentline.common.arrays import load_arrays, save_arrays
from latentline.common.errors import UserError
from latentline.common.files import canonical_json, sha256_bytes, sha256_file
from latentline.runtime.lock import lock

_KIND = "state"
log = logging.getLogger(__name__)


class ResumeFile:
    """The saved state of one training, or of none yet.

    ``folder`` is free for other files that must outlive a restart, such as pictures drawn on the way. From :meth:`load` to
    :meth:`remove`, or to the end of the process, no other process may use it.

    Args:
        stage: DVC stage.
        identity: the knobs and input digests (JSON) that shape the run.
    """

    def __init__(self, stage: str, identity: dict[str, Any]) -> None:
        key = sha256_bytes(canonical_json({**identity, "code": _code_digests()}).encode())[:16]
        self.folder = Path(os.environ.get("DVC_ROOT", ".")) / ".state" / stage / key
        self._path = self.folder / "state.safetensors"
        self._key = key
        self._lock: int | None = None
        self.stage = stage

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What :meth:`save` wrote last; None when there is nothing, or nothing that can be used: the log says so.

        Raises UserError when another process trains from or to this state.
        """
        if self._lock is None:
            self._lock = lock(self.folder / "lock", f"{self.stage} with the same knobs, inputs and code")
        if not self._path.exists():
            return None
        try:
            tensors, meta = load_arrays(self._path, self.stage, kind=_KIND)
        except UserError as error:
            log.warning("starting over: %s", error)
            return None
        if meta["key"] != self._key:
            log.warning("starting over: %s is the state of another run", self._path)
            return None
        return tensors, meta["state"]

    def save(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Replace the state, whole or not at all."""
        save_arrays(self._path, tensors, {"kind": _KIND, "key": self._key, "state": meta})

    def remove(self) -> None:
        """Forget the state: the stage has written its outs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _code_digests() -> dict[str, str]:
    """sha256 of each module of this project that is loaded."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name.split(".")[0] == "latentline"}
    return {name: sha256_file(Path(file)) for name, file in files.items() if file}
