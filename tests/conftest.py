"""Fixtures that many tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

settings.register_profile("latentline", deadline=None, derandomize=True, database=None, max_examples=25, suppress_health_check=list(HealthCheck))
settings.load_profile("latentline")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """New networks and random inputs are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, as a stage's, outside any DVC run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def awake() -> Callable[[nn.Module], nn.Module]:
    """Networks begin with layers of zeros; this fills all parameters at random, so that everything in them matters."""

    def fill(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        return module

    return fill
