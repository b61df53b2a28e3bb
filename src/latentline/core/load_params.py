"""Read params.yaml, refuse it as a whole if anything in it is wrong, and return the sections that a stage declares."""

import difflib
import importlib
import math
import re
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.files import read_sealed_json
from latentline.core.labels import Schema, schema_from_json
from latentline.core.params import LARGEST_INTEGER, Section
from latentline.core.paths import PREPARED

PARAMS_FILE = Path("params.yaml")
_LARGEST = 1 << 18  # characters
_DEEPEST = 16  # sections and lists within each other
S = TypeVar("S", bound=Section)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the file as a plain dictionary.

    The file is YAML 1.2 (so ``1e-4`` is a number) without tags that build objects, aliases or duplicate keys.

    Raises:
        UserError: one line with the file, what is wrong and the remedy.
    """
    return parse_params(read_text(path), path)


def read_text(path: Path = PARAMS_FILE) -> str:
    """Return the text of a params file. Raises UserError where it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `git checkout {path}` or `make recipe NAME=default`") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8
        raise UserError(f"{path} must be readable UTF-8 text ({_one_line(error)}); mend it") from None


def parse_params(text: str, path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the content of a params file; see :func:`read_params`. ``path`` is named in messages only."""
    try:
        _require_plain(text, path)
        content = YAML(typ="safe", pure=True).load(text)
    except UserError:  # a ValueError too
        raise
    except (ValueError, TypeError, YAMLError) as error:  # ValueError: a date that no calendar has
        raise UserError(f"{path} must be valid YAML ({_one_line(error)}); mend that line") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"{path} ({kind}) must have sections such as `data:`; run `make recipe NAME=default`")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _require_plain(text: str, path: Path) -> None:
    """Raise UserError for text too large, too deep or with aliases, which could take all memory or time to read."""
    if len(text) > _LARGEST:
        raise UserError(f"{path} ({len(text)} characters) must be at most {_LARGEST} long; mend it")
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        line = event.start_mark.line + 1
        if depth > _DEEPEST:
            raise UserError(f"{path}: line {line} (level {depth}) must be at most {_DEEPEST} levels deep; mend it")
        if isinstance(event, AliasEvent):
            raise UserError(f"{path}: line {line} (alias *{event.anchor}) must be a plain value; write the value out")


def schema() -> type[Section]:
    """Return the model of the whole file. It is loaded by name: see the docstring of schema.py."""
    return cast(type[Section], importlib.import_module("stages.schema").Params)


def validate(content: dict[str, Any], path: Path = PARAMS_FILE) -> Any:
    """Return the whole file as ``schema.Params``.

    Every setting has to be there, although the models have defaults: DVC tracks what the file says.

    Raises:
        UserError: one line per bad setting with its name, its value, what is expected and the remedy.
    """
    absent = missing(content, schema())
    lines = [f"{name} (missing) must be set; run `make params`, which adds its default" for name in absent]
    problems: dict[str, str] = {}  # one line per setting, also where it has several types that all refuse its value
    try:
        params = schema().model_validate(content)
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == "value_error" and lines:  # a rule across settings, some of them missing
                continue
            parts = _location(problem, content)
            rule = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else ""
            problems.setdefault(rule or _dotted(parts), rule or _explain(parts, problem))
    lines += problems.values()
    if lines:
        raise UserError("\n".join(f"{path}: {line}" for line in lines))
    return params


def load(section: str, kind: type[S], path: Path = PARAMS_FILE) -> tuple[S, int, ComputeParams]:
    """Validate the whole file, then return only (this section, seed, compute): what a stage may read.

    All stages but ``download`` also refuse settings that the prepared images cannot serve, whichever section they are
    in: else a later stage would refuse them when all trainings are done.

    Raises:
        UserError: one line per bad setting.
    """
    content = read_params(path)
    params = validate(content, path)
    if section != "data" and (card := _prepared_card()):
        counts = {name: split["count"] for name, split in card["splits"].items()}
        params.require_images(counts, schema_from_json(card["schema"]), captions=bool(card.get("captions")))
    return kind.model_validate(content[section]), content["seed"], ComputeParams.model_validate(content["compute"])


def require_images(counts: Mapping[str, int], schema: Schema, captions: bool, path: Path = PARAMS_FILE) -> None:
    """Raise UserError where a setting needs more images per split, or other labels, than stage ``download`` has."""
    validate(read_params(path), path).require_images(counts, schema, captions)


def _prepared_card() -> dict[str, Any] | None:
    """Return the content of data/prepared/card.json; None = no such file, or a damaged one, which its readers name."""
    try:
        return read_sealed_json(PREPARED / "card.json", "download")
    except UserError:
        return None


def missing(content: dict[str, Any], model: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the settings and sections of ``model`` that ``content`` lacks."""
    for name, field in model.model_fields.items():
        if name not in content:
            yield f"{prefix}{name}"
        elif (section := section_of(field)) and isinstance(content[name], dict):
            yield from missing(content[name], section, f"{prefix}{name}.")


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the model of a field that is a section, None for a single setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _location(problem: Any, content: Any) -> list[int | str]:
    """Return where in ``content`` a problem is; pydantic's own location also names the types that it tried."""
    parts: list[int | str] = []
    for part in problem["loc"]:
        if isinstance(content, dict):
            if part not in content:
                break
        elif not isinstance(content, list) or not isinstance(part, int):
            break
        content = content[part]
        parts.append(part)
    return parts


def _dotted(parts: list[int | str]) -> str:
    return ".".join(str(part) if re.fullmatch(r"\w+", str(part)) else repr(part) for part in parts)


def _explain(parts: list[int | str], problem: Any) -> str:
    """Return one line for pydantic's problem with the setting at ``parts``: name, value, expectation, remedy."""
    model: type[Section] | None = schema()
    annotation: Any = None
    default: Any = None
    for part in parts:
        if isinstance(part, int) or model is None:
            annotation = _entry(annotation)
        elif field := model.model_fields.get(part):
            annotation, default, model = _annotation(field), field.default, section_of(field)
    name, value = _dotted(parts), _shown(problem["input"])
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        close = difflib.get_close_matches(str(parts[-1]), model.model_fields, 1) if model else []
        remedy = f"rename it to {close[0]}, or remove it" if close else "correct its name, or remove it"
        return f"{name} ({value}) must be a setting that recipes/default.yaml has; {remedy}"
    if model is not None:
        return f"{name} ({value}) must be a section with settings; write them as in recipes/default.yaml"
    default = default if isinstance(default, str) else _shown(default)
    expected = _expected(annotation, problem["input"])
    return f"{name} ({value}) must be {expected}; correct it, or take the default, {default}"


def _shown(value: Any) -> str:
    """Return a value as a message shows it: in one line, shortened where it is long."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)


def _annotation(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _entry(annotation: Any) -> Any:
    """Return the type of the entries of the list or mapping in ``annotation``."""
    if get_origin(annotation) in (list, dict):
        return get_args(annotation)[-1]
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((entry for kind in inner if (entry := _entry(kind)) is not None), None)


def _expected(annotation: Any, value: Any, limits: dict[str, Any] | None = None) -> str:
    """Return in words what a type with its limits allows; ``value`` decides which of the limits need a word."""
    limits, origin, args = limits or {}, get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _expected(args[0], value, _limits(args[1:]))
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(kind, value) for kind in args)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else str(args[0])
    if origin is list:
        return f"a list of {_size(limits)}, each {_expected(args[0], value)}"
    if origin is dict:
        return f"a mapping from names to {_expected(args[1], None)}"
    text = "text that is not empty" if "min_length" in limits else "text"
    return {
        int: "an integer" + _range(limits, value),
        float: "a number" + _range(limits, value),
        str: f"text of the form {limits['pattern']}" if "pattern" in limits else text,
        bool: "true or false",
        type(None): "null",
    }[annotation]


def _size(limits: dict[str, Any]) -> str:
    least, most = limits.get("min_length"), limits.get("max_length")
    if most is not None:
        return f"{least} entries" if least == most else f"{least} to {most} entries"
    return f"at least {least} entries" if least else "entries"


def _limits(metadata: Iterable[Any]) -> dict[str, Any]:
    """Return the limits that pydantic keeps in an annotation's metadata, by their names in ``Field``."""
    names = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
    limits: dict[str, Any] = {}
    for one in metadata:
        of_one = {name: getattr(one, name) for name in names if getattr(one, name, None) is not None}
        limits |= _limits(one.metadata) if isinstance(one, FieldInfo) else of_one
    return limits


def _range(limits: dict[str, Any], value: Any) -> str:
    """Return the limits of a number in words, with a blank before."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    lower = f"of at least {limits['ge']}" if "ge" in limits else f"above {limits['gt']}" if "gt" in limits else ""
    upper = f"at most {limits['le']}" if "le" in limits else f"below {limits['lt']}" if "lt" in limits else ""
    if "le" in limits and "ge" in limits:
        lower, upper = f"from {limits['ge']} to {limits['le']}", ""
        if limits["le"] == LARGEST_INTEGER and not (is_number and value > LARGEST_INTEGER):
            lower = f"of at least {limits['ge']}"
    if is_number and not math.isfinite(value):
        lower += " and finite" if lower else "that is finite"
    words = f" {lower}" * bool(lower) + (" and" * bool(lower) + f" {upper}") * bool(upper)
    return words + (f" and divisible by {limits['multiple_of']}" if "multiple_of" in limits else "")
