"""Files of a Debian package, through the system's own apt and dpkg. Apt verifies them; root is not needed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from stages.download.fetch import SourceError

_TOTAL_SECONDS = 180.0


def debian_files(package: str, names: list[str], timeout_seconds: float) -> dict[str, bytes]:
    """Return the content of the files ``names`` in ``package``. Raises SourceError."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SourceError("no apt-get and dpkg-deb on this machine")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            archive = _download(package, work, timeout_seconds)
        except SourceError:
            # A new machine has empty package lists. Refresh them into a private folder, which needs no root.
            private = [f"-oDir::State::Lists={_made(work / 'lists')}", f"-oDir::Cache={_made(work / 'cache')}"]
            _run(["apt-get", *private, *_limits(timeout_seconds), "update"], work)
            archive = _download(package, work, timeout_seconds, *private)
        _run(["dpkg-deb", "--extract", str(archive), str(work / "files")], work)
        found = {path.name: path for path in (work / "files").rglob("*") if path.is_file() and not path.is_symlink()}
        if missing := [name for name in names if name not in found]:
            raise SourceError(f"package {package} has no {', '.join(missing)}")
        return {name: found[name].read_bytes() for name in names}


def _download(package: str, work: Path, timeout_seconds: float, *options: str) -> Path:
    _run(["apt-get", *options, *_limits(timeout_seconds), "download", package], work)
    archives = list(work.glob("*.deb"))
    if len(archives) != 1:
        raise SourceError(f"apt-get download {package} left {len(archives)} archives")
    return archives[0]


def _limits(timeout_seconds: float) -> list[str]:
    seconds = str(max(1, round(timeout_seconds)))
    # The sandbox user of apt may lack the right to write into our folder, and apt would warn.
    return [
        "-qq",
        f"-oAcquire::http::Timeout={seconds}",
        f"-oAcquire::https::Timeout={seconds}",
        "-oAcquire::Retries=0",
        "-oAPT::Sandbox::User=root",
    ]


def _made(path: Path) -> Path:
    (path / "partial").mkdir(parents=True)
    (path / "archives" / "partial").mkdir(parents=True)
    return path


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TOTAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"`{command[0]} {command[-1]}`: {error}") from None
    if done.returncode:
        raise SourceError(
            f"`{command[0]} {command[-1]}`: {' '.join(done.stderr.split()) or f'exit status {done.returncode}'}"
        )
