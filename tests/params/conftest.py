"""The default recipe's content, for tests that change it."""

import copy
from pathlib import Path
from typing import Any

import pytest

from latentline.core.load_params import read_params


@pytest.fixture(scope="session")
def default(root: Path) -> dict[str, Any]:
    """Return the content of recipes/default.yaml."""
    return read_params(root / "recipes" / "default.yaml")


@pytest.fixture
def content(default: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``default`` that the test may change."""
    return copy.deepcopy(default)
