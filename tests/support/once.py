"""Folders that take long to make, made once by all workers of pytest-xdist together."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


class Once:
    """Maker of folders. The worker that asks first for a name makes its folder; each other worker gets a copy."""

    def __init__(self, config: pytest.Config, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._common = factory.getbasetemp().parent if hasattr(config, "workerinput") else None

    def folder(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a folder of this worker with what ``make`` has written to it; ``make`` receives a new path."""
        own = self._factory.mktemp(name) / name
        if self._common is None:
            make(own)
            return own
        common = self._common / name
        with FileLock(f"{common}.lock"):
            if common.exists():
                shutil.copytree(common, own, symlinks=True)
            else:
                make(own)
                shutil.copytree(own, common, symlinks=True)  # no test changes it, whatever it does in ``own``
        return own


def in_order_for_workers(items: list[pytest.Item], shared: tuple[str, ...]) -> list[pytest.Item]:
    """Return the tests in an order of files in which workers wait little for each other and end together.

    First comes one file for each ``shared`` fixture, which makes the folder, and last the files of quick tests. The
    other users of shared fixtures come in between, when all folders are there.
    """
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    made: set[str] = set()
    rank = {}
    for path, tests in by_file.items():
        used = {name for test in tests for name in getattr(test, "fixturenames", ())} & set(shared)
        rank[path] = 0 if used - made else 2 if used else 1 if "stages" in path.parts else 3
        made |= used
    return [item for path in sorted(by_file, key=rank.__getitem__) for item in by_file[path]]
