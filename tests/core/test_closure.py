"""The import closure holds every file that a module can import, and no other."""

from pathlib import Path

import pytest

from latentline.core.closure import module_closure, script_closure

FILES = {
    "src/latentline/__init__.py": "",
    "src/latentline/nn/__init__.py": "import latentline.nn.blocks",
    "src/latentline/nn/blocks.py": "import torch",
    "src/latentline/figures/__init__.py": "",
    "src/latentline/figures/plots.py": "",
    "src/latentline/ring.py": "from stages.x import train",
    "stages/__init__.py": "",
    "stages/schema.py": "",
    "stages/x/__init__.py": "",
    "stages/x/__main__.py": "from stages.x import report\nfrom stages.x.train import train\n",
    "stages/x/train.py": "import importlib\ndef train():\n    from latentline import nn, ring\n    importlib.import_module('stages.schema')\n",
    "stages/x/report.py": "from latentline.figures.plots import curves",
}


@pytest.fixture
def repository(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def _names(paths: list[Path], root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in paths}


TRAIN = {f"stages/{name}.py" for name in ("__init__", "x/__init__", "x/train")} | {
    f"src/latentline/{name}.py" for name in ("__init__", "nn/__init__", "nn/blocks", "ring")
}


def test_a_module_reaches_what_it_imports_also_within_functions_and_in_a_ring(repository):
    closure = module_closure("stages.x.train", repository)
    assert _names(closure, repository) == TRAIN
    assert closure == sorted(closure)


def test_a_package_is_its_init_file(repository):
    assert _names(module_closure("latentline.nn", repository), repository) == {
        f"src/latentline/{name}.py" for name in ("__init__", "nn/__init__", "nn/blocks")
    }


def test_a_script_reaches_what_it_imports_by_itself(repository):
    expected = TRAIN | {"stages/x/__main__.py", "stages/x/report.py", "src/latentline/figures/__init__.py", "src/latentline/figures/plots.py"}
    assert _names(script_closure(repository / "stages/x/__main__.py", repository), repository) == expected


def test_a_module_from_elsewhere_is_refused(repository):
    with pytest.raises(ValueError, match=r"torch must be a module under"):
        module_closure("torch", repository)


def test_a_relative_import_is_refused(repository):
    (repository / "stages/x/train.py").write_text("from . import report\n")
    with pytest.raises(ValueError, match=r"train\.py:1: relative import"):
        module_closure("stages.x.train", repository)
