"""Tests on the simulated device. ``tests/stages/test_on_simulated_device.py`` runs them, in a process of their own.

The device must be there before the first backward pass of a process, and torch forks no process afterwards.
"""

import os
from pathlib import Path

import pytest

from support.simulated_device import simulated_device
from support.stage_runs import DIGITS_RUN

simulated_device()


@pytest.fixture(scope="session")
def digits_run() -> Path:
    """Return the folder in which every stage ran on the CPU; see ``tests/stages/conftest.py``."""
    return Path(os.environ[DIGITS_RUN])
