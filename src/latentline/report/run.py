"""What git holds of a run: its settings, metrics and figures, read from the working tree or from a revision."""

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentline.core.errors import UserError
from latentline.core.load_params import parse_params
from latentline.core.nested import by_dotted_name

_READ = ("params.yaml", "metrics", "fig")
_CARD = Path("data/prepared/card.json")
IMAGES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".webp": "image/webp"}
"""Suffix of a figure's file -> its media type."""


@dataclass(frozen=True)
class Run:
    """A run: the bytes of its small files, by their paths from the repository's root."""

    name: str
    revision: str  # 40 hexadecimal digits; "" = outside git
    changed: tuple[str, ...]  # paths that differ from the revision
    files: dict[str, bytes]
    data_card: dict[str, Any]  # licence, source and citation of the data; empty = the data are not here

    @property
    def settings_text(self) -> str:
        """Content of params.yaml."""
        return self.files["params.yaml"].decode()

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name."""
        return by_dotted_name(parse_params(self.settings_text))

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics/NAME.json by NAME."""
        names = sorted(path for path in self.files if path.startswith("metrics/") and path.endswith(".json"))
        return {Path(path).stem: _json(path, self.files[path]) for path in names}

    def below(self, folder: str, *suffixes: str) -> list[str]:
        """Return the sorted paths in ``folder`` that have one of the suffixes."""
        found = [path for path in self.files if path.startswith(f"{folder}/")]
        return sorted(path for path in found if Path(path).suffix in suffixes)


def read_workspace() -> Run:
    """Read the run of the current folder. Raises UserError where there is none."""
    named = [path for name in _READ for path in ([Path(name)] if Path(name).is_file() else Path(name).rglob("*"))]
    files = {path.as_posix(): path.read_bytes() for path in named if path.is_file() and path.name != ".gitignore"}
    revision = _git("rev-parse", "HEAD").decode().strip()
    status = _git("status", "--porcelain", "--no-renames", "--untracked-files=no", ".").decode().splitlines()
    card = json.loads(_CARD.read_bytes()) if _CARD.is_file() else {}
    return _complete(Run("this run", revision, tuple(line[3:] for line in status), files, card))


def read_revision(name: str) -> Run:
    """Read the run that a git revision or a DVC experiment holds.

    Raises:
        UserError: there is no such revision, or it holds no run.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    try:
        with Repo() as repo:
            revision = resolve_rev(repo.scm, name)
    except DvcException:
        raise UserError(
            f"BASE ({name}) must be a git revision or an experiment; take one from `git log` or `dvc exp list`"
        ) from None
    present = _git("ls-tree", "--name-only", revision, *_READ).decode().split()
    archive = io.BytesIO(_git("archive", "--format=tar", revision, *present)) if present else None
    files = {}
    if archive:
        with tarfile.open(fileobj=archive) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    return _complete(Run(name, revision, (), files, {}))


def _complete(run: Run) -> Run:
    """Return ``run``. Raises UserError where it has no settings or no metrics."""
    if "params.yaml" not in run.files or not run.metrics:
        where = "this folder" if run.name == "this run" else f"BASE ({run.name})"
        raise UserError(f"{where} must hold params.yaml and metrics/*.json of a finished run; run `dvc repro` there")
    return run


def _json(path: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise UserError(f"{path} must be JSON; run `git checkout {path}` or `dvc repro`") from None


def _git(*arguments: str) -> bytes:
    """Return the output of a git command, empty where it fails: the folder may be outside git, or git not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""
