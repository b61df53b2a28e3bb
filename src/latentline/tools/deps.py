"""Write the code dependencies of every stage into dvc.yaml: the folders that its imports touch (``make deps``).

``tests/test_dvc_file.py`` fails while dvc.yaml says anything else.
"""

import sys
from pathlib import Path

from ruamel.yaml import YAML

from latentline.core.closure import module_closure

_CODE_ROOTS = ("stages/", "src/")
NOT_LISTED = {"stages/__init__.py", "src/latentline/__init__.py"}
"""They only say where the code is; ``tests/test_architecture.py`` holds them to that."""


def code_folders(root: Path, stage: str) -> list[str]:
    """Return the folders under ``root`` that ``python -m stages.<stage>`` imports from, sorted.

    They are its own, and packages of the library; all of stages/ for a stage that imports a file right in it.
    """
    files = [path.relative_to(root).as_posix() for path in module_closure(f"stages.{stage}.__main__", root)]
    folders = {_folder(file) for file in files if file not in NOT_LISTED}
    return sorted(folder for folder in folders if not any(folder.startswith(f"{other}/") for other in folders))


def with_code_deps(stage_deps: list[str], folders: list[str]) -> list[str]:
    """Replace the code dependencies among ``stage_deps`` by ``folders``; the others stay where they are."""
    return [dep for dep in stage_deps if not f"{dep}/".startswith(_CODE_ROOTS)] + folders


def _folder(file: str) -> str:
    """``stages/sample/report.py`` -> ``stages/sample``; ``src/latentline/nn/unet.py`` -> ``src/latentline/nn``."""
    parts = file.split("/")[:-1]
    return "/".join(parts[: 2 if parts[0] == "stages" else 3])


def main() -> None:
    """Rewrite the code dependencies of every stage in ./dvc.yaml; comments and order of all else stay."""
    root = Path.cwd()
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(root / "dvc.yaml")
    for name, stage in pipeline["stages"].items():
        stage["deps"] = with_code_deps(list(stage["deps"]), code_folders(root, name))
    yaml.dump(pipeline, root / "dvc.yaml")
    print("dvc.yaml: code dependencies written", file=sys.stderr)


if __name__ == "__main__":
    main()
