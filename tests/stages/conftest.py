"""Folders in which stages have run, each made once for all tests that use it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import STAGES
from support.once import Once
from support.small_kinds import KINDS, SmallRun
from support.stage_runs import DIGITS, run_stages, use_small_chunks


@pytest.fixture(scope="session")
def digits_run(once: Once, write_params: Callable[..., None]) -> Path:
    """Return a folder in which every stage ran with the settings ``DIGITS``. Tests that change it take a copy."""

    def make(folder: Path) -> None:
        (folder / "data" / "edit").mkdir(parents=True)
        write_params(folder, DIGITS)
        with pytest.MonkeyPatch.context() as patch:
            use_small_chunks(patch)
            run_stages(folder, *STAGES)

    return once.folder("digits", make)


@pytest.fixture(params=KINDS)
def small_run(request: pytest.FixtureRequest, small_runs: Callable[[str], SmallRun]) -> SmallRun:
    """Return a folder in which every stage ran, of each kind in turn. Tests that change it take ``small_copy``."""
    return small_runs(request.param)


@pytest.fixture
def small_copy(small_run: SmallRun, tmp_path: Path) -> SmallRun:
    """Return a copy of ``small_run`` that the test may change."""
    return small_run.copy(tmp_path / "copy")


@pytest.fixture
def copied(captioned: SmallRun, tmp_path: Path) -> SmallRun:
    """Return a copy of ``captioned`` that the test may change."""
    return captioned.copy(tmp_path / "copy")
