"""Tests on a CUDA GPU. Without one they are skipped: ``pytest tests/gpu`` on a machine that has one runs them."""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder where torch finds no CUDA GPU."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture
def gpu(machine, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return the GPU."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")  # the stages set it
    return torch.device("cuda")
