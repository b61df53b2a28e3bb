"""Fixtures that many tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from ruamel.yaml import YAML
from torch import nn

from latentline.tools.params_file import read_recipe
from support.params import set_params

settings.register_profile(
    "latentline",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=list(HealthCheck),
)
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


@pytest.fixture(scope="session")
def write_params(root: Path) -> Callable[[Path, dict[str, object]], None]:
    """Write params.yaml into a folder: the default recipe with other values of some settings, named ``section.setting``."""

    def write(folder: Path, params: dict[str, object]) -> None:
        content = read_recipe("default", root)
        set_params(content, params)
        YAML().dump(content, folder / "params.yaml")

    return write


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    """Stages set torch and the environment up for themselves; the tests of other modules find both as they were."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG"):
            patch.setenv(variable, "1")
        yield
    torch.use_deterministic_algorithms(False)
    torch.set_flush_denormal(False)


@pytest.fixture
def awake() -> Callable[[nn.Module], nn.Module]:
    """Networks begin with layers of zeros; this fills all parameters at random, so that everything in them matters."""

    def fill(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        return module

    return fill
