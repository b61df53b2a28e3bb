"""Programs of examples/, imported, and the npm packages that they read."""

import io
import tarfile
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def load_example(name: str) -> ModuleType:
    """Return examples/``name``.py as a module."""
    spec = spec_from_file_location(name, Path(__file__).parents[2] / "examples" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_package(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write an npm package with the files; return its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
