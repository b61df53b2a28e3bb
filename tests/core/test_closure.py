"""The import closure holds every file that a module can import, and no other."""

from pathlib import Path

import pytest

from latentline.core.closure import module_closure


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small repository with every kind of import."""
    files = {
        "stages/__init__.py": "",
        "stages/run/__init__.py": "",
        "stages/run/__main__.py": "from stages.run import helper\nfrom pkg.a import thing\n",
        "stages/run/helper.py": "import json\n",
        "stages/run/unused.py": "",
        "stages/other/__init__.py": "",
        "stages/other/__main__.py": "",
        "src/pkg/__init__.py": "",
        "src/pkg/a.py": "from pkg.sub import b\nimport torch\n\ndef thing():\n    import pkg.late\n",
        "src/pkg/sub/__init__.py": "from pkg.c import name\n",
        "src/pkg/sub/b.py": "import pkg.a\n",
        "src/pkg/sub/unused.py": "",
        "src/pkg/c.py": "name = 1\n",
        "src/pkg/late.py": "",
        "src/pkg/unused.py": "import pkg.sub.unused\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _closure(module: str, tree: Path) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in module_closure(module, tree)]


def test_a_closure_follows_packages_submodules_cycles_and_late_imports_and_nothing_else(tree):
    assert _closure("stages.run.__main__", tree) == [
        "src/pkg/__init__.py",
        "src/pkg/a.py",
        "src/pkg/c.py",
        "src/pkg/late.py",
        "src/pkg/sub/__init__.py",
        "src/pkg/sub/b.py",
        "stages/__init__.py",
        "stages/run/__init__.py",
        "stages/run/__main__.py",
        "stages/run/helper.py",
    ]
    assert _closure("stages.other.__main__", tree) == ["stages/__init__.py", "stages/other/__init__.py", "stages/other/__main__.py"]


def test_a_relative_import_is_refused_since_the_closure_would_miss_it(tree):
    (tree / "src" / "pkg" / "c.py").write_text("from . import unused\n")
    with pytest.raises(ValueError, match="relative import"):
        module_closure("stages.run.__main__", tree)


def test_an_unknown_module_is_refused(tree):
    with pytest.raises(ValueError, match=r"no module stages\.missing"):
        module_closure("stages.missing", tree)
