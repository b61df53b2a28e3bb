"""Finished runs as the explorer opens them."""

from collections.abc import Callable

import pytest
import torch

from latentline.explorer.session import Session, open_session
from latentline.feature_extractors import build as feature_extractors
from support.small_kinds import SmallRun, TinyEfficientNet

Open = Callable[[str], Session]


@pytest.fixture
def opened(machine: None, small_runs: Callable[[str], SmallRun], monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a function that enters the folder of a kind of run and opens it."""

    def enter(kind: str) -> Session:
        monkeypatch.chdir(small_runs(kind).folder)
        monkeypatch.setattr(feature_extractors, "EfficientNetLite0", TinyEfficientNet)
        monkeypatch.setattr(feature_extractors, "FEATURES", TinyEfficientNet.FEATURES)
        return open_session(torch.device("cpu"))

    return enter


@pytest.fixture
def session(opened: Open) -> Session:
    """Return the run with a class and attributes of all kinds."""
    return opened("everything")
