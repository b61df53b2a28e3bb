"""Which files of this repository a stage script can import, and dvc.yaml's ``deps`` made to say just that.

``make deps`` runs this; ``tests/test_pipeline.py`` fails while dvc.yaml says anything else.
"""

import sys
from pathlib import Path

from ruamel.yaml import YAML

from latentline.core.closure import script_closure

_CODE_ROOTS = ("stages/", "src/")


def import_closure(root: Path, script: str) -> list[str]:
    """Return the import closure of ``script``, itself included, as sorted paths relative to ``root``."""
    return sorted(path.relative_to(root).as_posix() for path in script_closure(root / script, root))


def with_code_deps(stage_deps: list[str], closure: list[str]) -> list[str]:
    """The stage's other dependencies as they stand, then its code."""
    return [dep for dep in stage_deps if not dep.startswith(_CODE_ROOTS)] + closure


def script_of(command: str) -> str:
    """``python stages/x.py`` -> ``stages/x.py``."""
    return command.split()[1]


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
