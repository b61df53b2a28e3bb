"""Read params.yaml, refuse it as a whole if anything in it is wrong, hand out the sections a stage declares."""

import importlib
import re
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.params import Section

PARAMS_FILE = Path("params.yaml")
_LARGEST = 1 << 18  # characters
_DEEPEST = 16  # sections and lists within each other
_MESSAGE = re.compile(r"^\w+ should (be |have |match )?| after validation, not \d+$")  # what pydantic's messages say beside what is expected
_LIMIT = re.compile(r"^(?=greater|less)")
_SECTION = re.compile(r"a valid dictionary or instance of \w+")
S = TypeVar("S", bound=Section)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The file as a plain dictionary. YAML 1.2 (so ``1e-4`` is a number), no tags that build objects, no aliases, no duplicate keys."""
    try:
        text = path.read_text(encoding="utf-8")
        _require_plain(text, path)
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it with `git checkout {path}` or `make recipe NAME=default`") from None
    except UserError:  # a ValueError too
        raise
    except (OSError, ValueError, TypeError, YAMLError) as error:  # ValueError: no UTF-8, or a date that no calendar has
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; mend that line") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, expected sections such as `data:`; start from recipes/default.yaml")
    return content


def _require_plain(text: str, path: Path) -> None:
    """Raise UserError for what a file of knobs never is, and what could take all memory or time to read: huge, deep, or full of aliases."""
    if len(text) > _LARGEST:
        raise UserError(f"{path} has {len(text)} characters, expected at most {_LARGEST}; start from recipes/default.yaml")
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        line = event.start_mark.line + 1
        if depth > _DEEPEST:
            raise UserError(f"{path}: line {line} opens {depth} lists or sections within each other, expected at most {_DEEPEST}; mend that line")
        if isinstance(event, AliasEvent):
            raise UserError(f"{path}: line {line} has the alias *{event.anchor}, expected plain values; write the value out")


def validate(content: dict[str, Any], path: Path = PARAMS_FILE) -> Any:
    """The whole file as ``schema.Params``. Raises UserError with one line per bad knob."""
    schema = importlib.import_module("stages.schema")  # by name: see the docstring of schema.py
    try:
        return schema.Params.model_validate(content)
    except ValidationError as error:
        problems: dict[str, list[Any]] = {}
        for problem in error.errors():
            problems.setdefault(_knob(problem, content), []).append(problem)
        raise UserError("\n".join(f"{path}: {_explain(knob, of_knob)}" for knob, of_knob in problems.items())) from None


def load(section: str, kind: type[S], path: Path = PARAMS_FILE) -> tuple[S, int, ComputeParams]:
    """Validate the whole file, then return only (this section, seed, compute): what a stage may read."""
    content = read_params(path)
    validate(content, path)
    return kind.model_validate(content[section]), content["seed"], ComputeParams.model_validate(content["compute"])


def _knob(problem: Any, content: Any) -> str:
    """The dotted name of the knob that pydantic has a problem with; its location also names the kinds of value that were tried."""
    parts = []
    for part in problem["loc"]:
        if (isinstance(content, dict) and part in content) or (isinstance(content, list) and isinstance(part, int)):
            content = content[part]
        elif problem["type"] != "missing":
            break
        parts.append(part if str(part).isidentifier() else f"{part!r}")
    return ".".join(map(str, parts))


def _explain(knob: str, problems: list[Any]) -> str:
    """One line for pydantic's problems with one knob, one for each kind of value it may have: knob, value, expectation, remedy."""
    problem = problems[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "missing":
        return f"{knob}: missing; expected every knob to be there; copy its line from recipes/default.yaml"
    value = reprlib.repr(problem["input"])
    if problem["type"] == "extra_forbidden":
        return f"{knob}: unknown knob, {value} is refused; expected the names in recipes/default.yaml; check its spelling, or remove it"
    expected = " or ".join(_LIMIT.sub("a number ", _MESSAGE.sub("", _SECTION.sub("a section", one["msg"]))) for one in problems)
    return f"{knob}: {value} is refused; expected {expected}; set it as the comment beside it in recipes/default.yaml says"
