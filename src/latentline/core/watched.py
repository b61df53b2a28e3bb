"""Walk of a folder that DVC watches; refuses entries that DVC waits for, fails on, or does not follow."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from latentline.core.errors import UserError

_ENDLESS = "a pipe, socket or device) must be a regular file, or DVC may wait for it without end; remove it"


def walk_watched(setting: str, root: Path, skips: Callable[[str], bool]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (folder, names of sub-folders, names of files) below ``root``, top down, in the order of names.

    The folder is relative to ``root``, with slashes, and empty for ``root`` itself. Links to files are files, broken
    links too.

    Args:
        setting: name of the setting that holds ``root``, for messages.
        root: the folder; it may be a link itself, which DVC follows.
        skips: True for the name of a sub-folder that is listed and not entered.

    Raises:
        UserError: a link to a folder; a pipe, socket or device; a name that is not UTF-8; a folder that may not be
            read.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        subfolders, files = [], []
        for entry in _entries(setting, root, folder):
            where = f"{setting} ({_shown(root / folder / entry.name)}"
            if not _is_utf8(entry.name):
                raise UserError(f"{where}) must have a name in UTF-8, or DVC fails; rename it")
            if entry.is_dir(follow_symlinks=False):
                subfolders.append(entry.name)
            elif skips(entry.name) or (entry.is_symlink() and not Path(entry.path).exists()):
                files.append(entry.name)
            elif entry.is_dir():
                raise UserError(
                    f"{where}, a link to a folder) must be a folder, since DVC does not follow it and would miss "
                    "changes; copy the folder there, or link its files one by one"
                )
            elif not entry.is_file():
                raise UserError(f"{where}, {_ENDLESS}")
            else:
                files.append(entry.name)
        yield folder, subfolders, files
        waiting += [f"{folder}/{name}".lstrip("/") for name in reversed(subfolders) if not skips(name)]


def require_watchable(setting: str, root: Path) -> None:
    """Raise UserError for anything at or below ``root`` on which DVC would stumble, broken links included.

    A path that does not exist passes: DVC names it itself.
    """
    if not root.is_dir():
        if root.exists() and not root.is_file():
            raise UserError(f"{setting} ({_shown(root)}, {_ENDLESS}")
        return
    for folder, _, files in walk_watched(setting, root, lambda name: False):
        for name in files:
            if not (path := root / folder / name).exists():
                raise UserError(f"{setting} ({path}, a broken link) must lead to a file, or DVC fails; remove it")


def _entries(setting: str, root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        path = _shown(root / folder)
        raise UserError(f"{setting} ({path}: {error.strerror}) must be a readable folder; change its rights") from None


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _shown(path: Path) -> str:
    """Return ``path`` with an escape for each byte that is not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
