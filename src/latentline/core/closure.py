"""The files of this repository that a module can import."""

import ast
from pathlib import Path


def module_closure(module: str, root: Path) -> list[Path]:
    """Return the files that ``module`` reaches through import statements, its own included, sorted.

    Imports inside functions count, since they run when the function does. Imports by name (importlib) do not count; the
    two modules that use them, ``core/load_params.py`` and ``latentline/__init__.py``, give the reason.

    Args:
        module: dotted name, such as ``stages.sample.__main__``.
        root: the repository, which holds ``stages/`` and ``src/latentline/``.

    Raises:
        ValueError: no such module, or a relative import, which this repository does not use.
    """
    found: set[Path] = set()
    waiting = _files_of(module, root)
    names = {path.stem if path.name != "__init__.py" else path.parent.name for path in waiting}
    if module.rsplit(".", maxsplit=1)[-1] not in names:
        raise ValueError(f"{root} has no module {module}")
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            for name in _imported_names(path):
                waiting += _files_of(name, root)
    return sorted(found)


def _imported_names(path: Path) -> list[str]:
    """Return dotted names that may be modules: for ``from a import b`` both ``a`` and ``a.b``."""
    names: list[str] = []
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # never runs
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import; this repository imports by full name")
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _files_of(name: str, root: Path) -> list[Path]:
    """Return the module's file and the ``__init__.py`` of each package above it; nothing for other libraries."""
    parts = name.split(".")
    base = root / "src" if parts[0] != "stages" else root
    files = []
    for depth in range(1, len(parts) + 1):
        stem = base.joinpath(*parts[:depth])
        files += [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]
    return files
