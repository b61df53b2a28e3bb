"""Which files of this repository a stage script can import, and dvc.yaml's ``deps`` made to say just that.

``make deps`` runs this; ``tests/test_pipeline.py`` fails while dvc.yaml says anything else.
"""

import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

_CODE_ROOTS = ("stages/", "src/")


def import_closure(root: Path, script: str) -> list[str]:
    """Files under ``root`` that ``script`` (relative to it) reaches through import statements, itself included, sorted.

    Imports inside functions count: they run when the function does. Imports by name (importlib) do not; the one user of those,
    ``params/load.py``, says why.
    """
    found: set[Path] = set()
    waiting = [root / script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported_names(path):
            waiting += _files_of(name, root)
    return sorted(path.relative_to(root).as_posix() for path in found)


def with_code_deps(stage_deps: list[str], closure: list[str]) -> list[str]:
    """The stage's other dependencies as they stand, then its code."""
    return [dep for dep in stage_deps if not dep.startswith(_CODE_ROOTS)] + closure


def script_of(command: str) -> str:
    """``python stages/x.py`` -> ``stages/x.py``."""
    return command.split()[1]


def _imported_names(path: Path) -> list[str]:
    """Dotted names that may be modules: for ``from a import b`` both ``a`` and ``a.b``."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import; this repository imports by full name")
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _files_of(name: str, root: Path) -> list[Path]:
    """The module's file and the ``__init__.py`` of each package above it; none for modules from elsewhere."""
    parts = name.split(".")
    files = []
    for base in (root / "src", root / "stages"):
        for depth in range(1, len(parts) + 1):
            stem = base.joinpath(*parts[:depth])
            files += [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]
    return files


def main() -> None:
    """Rewrite the code dependencies of every stage in ./dvc.yaml; comments and order of all else stay."""
    root = Path.cwd()
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(root / "dvc.yaml")
    for stage in pipeline["stages"].values():
        stage["deps"] = with_code_deps(list(stage["deps"]), import_closure(root, script_of(stage["cmd"])))
    yaml.dump(pipeline, root / "dvc.yaml")
    print("dvc.yaml: code dependencies written", file=sys.stderr)


if __name__ == "__main__":
    main()
