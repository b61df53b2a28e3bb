"""The tests in tests/simulated pass, in a process of their own: see their conftest.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.stage_runs import DIGITS_RUN


def run_tests(root: Path, digits_run: Path, marked: str) -> None:
    environment = {**os.environ, DIGITS_RUN: str(digits_run)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked, "tests/simulated"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_trainings_run_on_another_device_and_do_not_wait_for_it(root, digits_run):
    run_tests(root, digits_run, "not slow")


@pytest.mark.slow
def test_every_stage_runs_on_another_device(root, digits_run):
    run_tests(root, digits_run, "slow")
