"""Files that appear whole or not at all: write beside, fsync, rename."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from latentline.core.errors import UserError
from latentline.core.paths import state_folder

_TEMPORARY = ".partial-"  # ignored by git and by DVC, so that a killed stage leaves nothing that either would track
_SEAL = "sha256"
_NOTED_BYTES = 16 << 20  # smaller files are hashed in milliseconds
_SETTLED_NS = 2_000_000_000  # a file may change twice within one tick of its clock, which is coarser than it prints


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces; equal values give equal bytes.

    Raises ValueError for NaN and infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_bytes(content: bytes) -> str:
    """Return the hex sha256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Return the hex sha256 of each file, by its path; see :func:`noted_sha256`."""
    return {str(path): noted_sha256(path) for path in paths}


def noted_sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes; a large file is read only if it has changed since an earlier call.

    A note in ``.state/digests`` has the digest of a file of 16 MiB or more, with its size, times and inode. A damaged
    note is ignored. Outside a repository, where there is no ``.state``, nothing is noted.
    """
    before = path.stat()
    if before.st_size < _NOTED_BYTES or not ("DVC_ROOT" in os.environ or state_folder().is_dir()):
        return sha256_file(path)
    place = str(path.resolve())
    note = state_folder() / "digests" / f"{sha256_bytes(place.encode())[:32]}.json"
    with suppress(UserError):
        found = read_sealed_json(note, "")
        digest = found.pop("digest", None)
        if found == _identity(place, before) and isinstance(digest, str):
            return digest
    settled = max(before.st_mtime_ns, before.st_ctime_ns) < time.time_ns() - _SETTLED_NS
    digest = sha256_file(path)
    if settled and _identity(place, path.stat()) == _identity(place, before):
        with suppress(OSError):  # a full disk, or another process that notes the same
            write_sealed_json(note, {**_identity(place, before), "digest": digest})
    return digest


def _identity(path: str, stat: os.stat_result) -> dict[str, Any]:
    """Return what changes with a file's content; ``ctime_ns`` does even where a program restores ``mtime_ns``."""
    return {
        "path": path,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed onto ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it replaces ``path`` with all its content."""
    with scratch_folder(path) as temporary:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` and delete it afterwards; what a killed run left there is deleted first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON, floats rounded to six significant digits: further digits would be noise in every diff."""
    write_json(path, _rounded(metrics))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON file that stage ``made_by`` writes. Raises UserError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no text, no JSON, or an absurdly long number
        raise UserError(f"{path} is not readable JSON ({error}); remove it and run `dvc repro {made_by}`") from None


def write_sealed_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON with an additional entry ``sha256`` of all others, for records that stages compute with."""
    write_json(path, {**value, _SEAL: _seal(value)})


def read_sealed_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read what :func:`write_sealed_json` wrote. Raises UserError when it is missing, damaged, changed or foreign."""
    value = read_json(path, made_by)
    try:
        intact = value.pop(_SEAL) == _seal(value)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # no mapping, no such entry, or no JSON
        intact = False
    if not intact:
        raise UserError(
            f"{path} is damaged or foreign: its content does not have the sha256 stored in it; "
            f"remove it and run `dvc repro {made_by}`"
        )
    return cast(dict[str, Any], value)


def require_sha256(path: Path, expected: str, described_in: Path, made_by: str) -> None:
    """Raise UserError unless the file at ``path`` has the sha256 ``expected``, which ``described_in`` stores.

    A large file is read only if it has changed since; see :func:`noted_sha256`.
    """
    try:
        found = noted_sha256(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run `dvc repro {made_by}`") from None
    if found != expected:
        raise UserError(
            f"{path} (sha256 {found[:12]}) must have the sha256 {expected[:12]} that {described_in} stores; "
            f"remove it and run `dvc repro {made_by}`"
        )


@contextmanager
def refusing_earlier_versions(path: Path, made_by: str) -> Iterator[None]:
    """Turn a KeyError or TypeError of the block into a UserError: the intact file at ``path`` is of an earlier version.

    The block should only take entries from the content of ``path`` and build objects from them.

    Args:
        path: file whose sha256 has been checked, so that damage is no other explanation.
        made_by: stage that writes it.
    """
    try:
        yield
    except (KeyError, TypeError) as error:  # an entry is missing, or a constructor has other arguments now
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{path} is of an earlier version ({reason}); run `dvc repro {made_by}`") from error


def _seal(value: dict[str, Any]) -> str:
    return sha256_bytes(canonical_json(value).encode())
