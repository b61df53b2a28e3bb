"""Read params.yaml, refuse it as a whole if anything in it is wrong, hand out the sections a stage declares."""

import importlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from latentline.common.errors import UserError
from latentline.params.base import Section
from latentline.params.compute import ComputeParams

PARAMS_FILE = Path("params.yaml")
S = TypeVar("S", bound=Section)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The file as a plain dictionary. YAML 1.2 (so ``1e-4`` is a number), no tags that build objects, no duplicate keys."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it with `git checkout {path}` or `make recipe NAME=default`") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; mend that line") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected sections such as `data:`; start from recipes/default.yaml")
    return content


def validate(content: dict[str, Any], path: Path = PARAMS_FILE) -> Any:
    """The whole file as ``schema.Params``. Raises UserError with one line per bad knob."""
    schema = importlib.import_module("latentline.params.schema")  # by name: see the docstring of schema.py
    try:
        return schema.Params.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {_explain(problem)}" for problem in error.errors())) from None


def load(section: str, kind: type[S], path: Path = PARAMS_FILE) -> tuple[S, int, ComputeParams]:
    """Validate the whole file, then return only (this section, seed, compute): what a stage may read."""
    content = read_params(path)
    validate(content, path)
    return kind.model_validate(content[section]), content["seed"], ComputeParams.model_validate(content["compute"])


def _explain(problem: Any) -> str:
    """One line for one of pydantic's problems: knob, value, expectation, remedy."""
    knob = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{knob}: unknown knob; check its spelling against recipes/default.yaml, or remove it"
    if problem["type"] == "missing":
        return f"{knob}: missing; every knob must be there, copy its line from recipes/default.yaml"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    expectation = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{knob}: {problem['input']!r} is refused; {expectation}; see the comment beside it in recipes/default.yaml"
