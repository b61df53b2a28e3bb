"""Import closure: the files of this repository that a module can import."""

import ast
from pathlib import Path

_BASES = ("src", ".", "stages")  # folders of a repository from which modules are imported


def module_closure(module_name: str, root: Path) -> list[Path]:
    """Return the files under ``root`` that a module reaches through import statements, its own included, sorted.

    Imports inside functions count, since they run when the function does. The ``__init__.py`` of each package on the
    way counts too. Imports by name (importlib) do not count.

    Args:
        module_name: dotted name.
        root: folder that holds ``src/latentline`` and ``stages/``.

    Raises:
        ValueError: there is no such module under ``root``, or a file has a relative import.
    """
    if not (files := _files_of(module_name, root)):
        raise ValueError(f"{module_name} must be a module under {root}")
    return _closure(files, root)


def script_closure(script: Path, root: Path) -> list[Path]:
    """Return the closure of a script, like :func:`module_closure`."""
    return _closure([script], root)


def _closure(files: list[Path], root: Path) -> list[Path]:
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _imported_names(path) for file in _files_of(name, root)]
    return sorted(found)


def _imported_names(path: Path) -> set[str]:
    """Return dotted names that may be modules: for ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import; this repository imports by full name")
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _files_of(name: str, root: Path) -> list[Path]:
    """Return the module's file and the ``__init__.py`` of each package above it; none for modules from elsewhere."""
    parts = name.split(".")
    files = []
    for base in _BASES:
        for depth in range(1, len(parts) + 1):
            stem = root.joinpath(base, *parts[:depth])
            files += [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]
    return files
