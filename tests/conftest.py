"""Fixtures that many tests share."""

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from ruamel.yaml import YAML
from torch import nn

from latentline.tools.params_file import read_recipe
from support.captioned import captioned_run
from support.checkout import STAGES, Checkout, finished_checkout
from support.memory_of_parses import remember_parses
from support.once import Once, in_order_for_workers
from support.params import set_params
from support.small_kinds import SmallRun, small_run_of
from support.stage_runs import DIGITS_RUN

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
collect_ignore = [] if DIGITS_RUN in os.environ else ["simulated"]
if DIGITS_RUN not in os.environ:  # the first backward pass starts threads if the compiler is loaded; then no fork works
    torch.ones((), requires_grad=True).backward()


@pytest.hookimpl(trylast=True)  # without the tests that options deselect
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in a good order for several workers."""
    items[:] = in_order_for_workers(items, ("finished", "small_runs", "digits_run"))


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Seed torch, so that new networks and random inputs are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _parse_each_text_once() -> Iterator[None]:
    """Remember what files say: parsing them takes about a tenth of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        remember_parses(patch)
        yield


@pytest.fixture(scope="session")
def once(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return the maker of folders that several workers use."""
    return Once(pytestconfig, tmp_path_factory)


@pytest.fixture(scope="session")
def finished(root: Path, once: Once) -> Checkout:
    """Return a checkout in which DVC has run the tiny pipeline, once for all tests.

    Tests that change anything, or that add experiments, take ``copy``.
    """
    return Checkout(once.folder("finished", lambda folder: finished_checkout(root, folder)))


@pytest.fixture
def copy(finished: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of ``finished`` that the test may change."""
    return finished.copy(tmp_path / "checkout")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter an empty folder, outside any DVC run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def write_params(root: Path) -> Callable[[Path, dict[str, object]], None]:
    """Return a function that writes params.yaml: the default recipe with other values of some settings."""
    default = read_recipe("default", root)

    def write(folder: Path, params: dict[str, object]) -> None:
        content = deepcopy(default)
        set_params(content, params)
        YAML().dump(content, folder / "params.yaml")

    return write


@pytest.fixture(scope="session")
def small_runs(once: Once, write_params: Callable[..., None]) -> Callable[[str], SmallRun]:
    """Return a function from the name of a kind to its run, made when it is first asked for."""
    made: dict[str, SmallRun] = {}

    def run_of(kind: str) -> SmallRun:
        if kind not in made:
            folder = once.folder(kind, lambda folder: small_run_of(kind, folder, write_params).make())
            made[kind] = small_run_of(kind, folder, write_params)
        return made[kind]

    return run_of


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory, write_params: Callable[..., None]) -> SmallRun:
    """Return a folder in which every stage ran on pictures with captions. Tests that change it take ``copied``."""
    run = captioned_run(tmp_path_factory.mktemp("captioned") / "run", write_params)
    run.run(*STAGES)
    return run


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    """Restore what stages change of torch and the environment once the module's tests are done."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG"):
            patch.setenv(variable, "1")
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", autouse=True)
def _numbers_near_zero() -> Iterator[None]:
    """Keep numbers near zero after each module; a stage that a test or fixture ran here sets them to 0.

    Else Hypothesis draws no floats in a later module: FloatingPointError.
    """
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def awake() -> Callable[[nn.Module], nn.Module]:
    """Return a function that fills all parameters at random, since new networks begin with layers of zeros."""

    def fill(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        return module

    return fill
