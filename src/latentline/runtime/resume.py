"""Saved state of a running stage, so that a killed run continues.

The state lies outside DVC's outs, which DVC deletes when a stage starts. It lies under the main checkout (DVC_ROOT)
even when ``dvc exp run --temp`` runs in a copy. Its key covers all that shapes the result: settings, inputs, and the
code that computes the result.

A training has up to three states: `running` (resume after a kill), `ended` (a kill before DVC records the outs, or
another figure later) and `kept` (start of a run with more epochs). A job without an order, such as sampling, stores its
finished chunks (``runtime/resumable_map.py``). A training may have such a job before its first step.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.core.files import canonical_json, read_json, sha256_bytes, sha256_file, write_json
from latentline.core.nested import by_dotted_name
from latentline.core.paths import state_folder
from latentline.runtime.lock import lock

_KIND = "state"
_RUNNING, _ENDED, _KEPT = "state.safetensors", "ended.safetensors", "kept.safetensors"
CHUNK_FILES = "chunks-*.safetensors"
"""Files of finished chunks in the folder of a state."""
_KEY_FILE = "key.json"
_MAX_NAMES = 3  # in a log line
log = logging.getLogger(__name__)


class ResumeFile:
    """The saved state of one run of a stage, or of none yet.

    ``folder`` may hold other files that must outlive a restart, such as previews. From :meth:`load` or :meth:`claim` to
    :meth:`finish`, or to the end of the process, no other process may use it.

    Args:
        stage: DVC stage.
        identity: the settings and input digests (JSON) that shape the result, nested by name.
        computed_by: names of the modules that compute the result. Their import closure is part of the key, so a change
            of any of its files starts over. Code that only draws or scores the result must lie outside.
        part: name of this training or job, where a stage has several.
        keep_bytes: room for the `ended` and `kept` states of all runs of the stage; see :meth:`finish`.
    """

    def __init__(
        self,
        stage: str,
        identity: dict[str, Any],
        computed_by: Sequence[str],
        part: str = "",
        keep_bytes: int = 2 << 30,
    ) -> None:
        key = canonical_json({"part": part, "identity": identity, "code": _code_digests(computed_by)})
        self._key = sha256_bytes(key.encode())[:16]
        self._key_parts: dict[str, Any] = json.loads(key)  # as it reads from the file of another state
        self.folder = state_folder() / stage / self._key
        self._lock: int | None = None
        self._is_main = True
        self._explained = False  # the log says why this run starts as it does
        self._final: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self.stage = stage
        self._keep_bytes = keep_bytes

    def load(
        self, usable: Callable[[dict[str, Any]], bool] = lambda meta: True
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what :meth:`save` wrote last, else what :meth:`save_extension_point` wrote, if it is ``usable``.

        Where there is none, the log says why the state of another run is not used.

        Raises:
            UserError: another process trains from or to this state.
        """
        self.claim()
        for name in (_RUNNING, _ENDED, _KEPT):
            saved = self.read(self.folder / name)
            if saved and usable(saved[1]):
                return saved
        if not self._explained:
            self._log_unused()
        return None

    def claim(self, rank: int = 0) -> None:
        """Lock the state for this process, ``rank`` of those that share the run.

        Raises UserError when another process with the same rank holds the lock.
        """
        if self._lock is None:
            name = "lock" if rank == 0 else f"lock-{rank}"
            self._lock = lock(self.folder / name, f"{self.stage} with the same settings, inputs and code")
            self._is_main = rank == 0

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what :meth:`write` wrote to ``path``, verified; None and a warning where it is unusable."""
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
        """Replace the `running` state, whole or not at all."""
        self.write(_RUNNING, tensors, meta)

    def save_extension_point(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Replace the `kept` state, from which a run of more epochs starts."""
        self.write(_KEPT, tensors, meta)

    def save_at_finish(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Store the last state, so that neither a kill nor a new figure later costs a step.

        A training that has saved before, hence a long one, replaces its `running` state now. Any other leaves the
        writing to :meth:`finish`; the tensors must stay unchanged until then.
        """
        if (self.folder / _RUNNING).exists():
            self.save(tensors, meta)
        else:
            self._final = tensors, meta

    def write(self, name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Write a file of the state, whole or not at all."""
        if self._is_main and not (self.folder / _KEY_FILE).exists():
            write_json(self.folder / _KEY_FILE, self._key_parts)
        save_arrays(self.folder / name, tensors, {"kind": _KIND, "key": self._key, "state": meta})

    def finish(self) -> None:
        """Turn the `running` state into the `ended` one, and delete finished chunks, once the outs are written.

        Where the states of the stage's ended runs need more than ``keep_bytes``, the ones that were used least recently
        are removed. The last `ended` and the last `kept` one of each part always stay.
        """
        if self._final:
            self.save(*self._final)
            self._final = None
        if (running := self.folder / _RUNNING).exists():
            running.replace(self.folder / _ENDED)
        for path in self.folder.glob(CHUNK_FILES):
            path.unlink()
        own = [path for name in (_ENDED, _KEPT) if (path := self.folder / name).exists()]
        for path in own:
            with suppress(FileNotFoundError):  # another run of the stage has just removed it
                os.utime(path)  # used now
        if not own:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if own:
            self._remove_old()

    def _remove_old(self) -> None:
        """Remove what exceeds ``keep_bytes``."""
        left, newest = self._keep_bytes, set[tuple[str, str]]()
        for path in _by_age(self.folder.parent, (_ENDED, _KEPT)):
            with suppress(FileNotFoundError):
                size, kind = path.stat().st_size, (_part_of(path.parent, self.stage), path.name)
                left -= size
                if left < 0 and kind in newest:
                    path.unlink()
                    log.info("removed %s (%.2f GiB); compute.keep_states_gib leaves no room for it", path, size / 2**30)
                newest.add(kind)

    def log_start(self, found: int) -> None:
        """Log that ``found`` chunks of an earlier run are used; if 0, why the state of another run is not.

        Before a training that has a state of its own, nothing is said about others.
        """
        if found:
            self._explained = True
            log.info("resumed %s with %d chunks", self.stage, found)
        elif not any((self.folder / name).exists() for name in (_RUNNING, _ENDED, _KEPT)):
            self._log_unused()

    def _log_unused(self) -> None:
        """Log in one line what differs from the newest state of another run of the same stage and part, if any."""
        folders = dict.fromkeys(path.parent for path in _by_age(self.folder.parent, ("[!.]*.safetensors",)))
        for folder in folders:
            if folder == self.folder:
                continue
            try:
                other = read_json(folder / _KEY_FILE, self.stage)
                if other["part"] != self._key_parts["part"]:
                    continue
                own = by_dotted_name(self._key_parts["identity"])
                changed = _differing(by_dotted_name(other["identity"]), own)
                changed += _differing(other["code"], self._key_parts["code"])
            except (UserError, AttributeError, KeyError, TypeError):  # damaged
                continue
            self._explained = True
            log.info("starts anew: %s changed since state %s", _listed(changed), folder.name)
            return


def _by_age(stage_folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the states of all runs of a stage whose names match a pattern, the one that was used last first."""
    ages: dict[Path, float] = {}
    for path in (path for pattern in patterns for path in stage_folder.glob(f"*/{pattern}")):
        with suppress(FileNotFoundError):  # a run of another key has just ended
            ages[path] = path.stat().st_mtime
    return sorted(ages, key=ages.__getitem__, reverse=True)


def _part_of(folder: Path, stage: str) -> str:
    """Return the part that the states in ``folder`` belong to; "" where the record of it is damaged."""
    try:
        return str(read_json(folder / _KEY_FILE, stage)["part"])
    except (UserError, KeyError, TypeError):
        return ""


def _code_digests(modules: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of each file in the modules' import closure, by its path in the repository."""
    digests = {}
    for name in modules:
        root = _root_of(name)
        for path in module_closure(name, root):
            digests[path.relative_to(root).as_posix()] = sha256_file(path)
    return digests


def _root_of(module: str) -> Path:
    """Return the repository that a module comes from, or the folder of installed packages."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} must be a module that can be imported")
    file = Path(spec.origin).resolve()
    above = (file.parent if file.name == "__init__.py" else file).parents[module.count(".")]
    return above.parent if above.name == "src" else above


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names whose values differ, or that only one of both has."""
    missing = object()
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name, missing) != other.get(name, missing)]


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
