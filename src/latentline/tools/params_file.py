"""Write recipes/default.yaml and the comments of params.yaml from the models: ``make params``.

A new setting is one field with a default and a docstring; this command adds it to both files.
"""

import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from latentline.core.errors import UserError
from latentline.core.files import replaced_file
from latentline.core.load_params import PARAMS_FILE, parse_params, read_text, schema, section_of, validate
from latentline.core.params import Section
from latentline.tools.recipe import REASON, SettingLine, complete_text, read_settings, render

HEADER = [
    "# All settings. Change a value, then run `dvc repro`; or try one with `dvc exp run -S denoiser.epochs=30`.",
    "# Plain values only: no anchors, no ${...} (experiments rewrite this file and would drop them).",
]
_Path = tuple[str, ...]
_Reasons = dict[_Path, str]
_PLAIN = re.compile(r"[\w./]([\w./ +-]*[\w./+-])?", re.ASCII)
_WORDS_OF_YAML_1_1 = {"y", "n", "yes", "no", "on", "off"}


def default_text() -> str:
    """Return the text of recipes/default.yaml: every field of the models with its default and its docstring."""
    return render(HEADER, _settings(schema(), {}, {}))


def refreshed(text: str, path: Path = PARAMS_FILE) -> str:
    """Return the params file ``text`` with its values and header, all missing settings, and the docstrings as comments.

    The reasons in its comments (behind ``Here:``) stay.

    Raises:
        UserError: one line per setting that is unknown or has a bad value.
    """
    content = parse_params(text, path)
    header, old = read_settings(text, str(path), strict=False)
    reasons = {setting.path: setting.comment.partition(REASON)[2] for setting in old if REASON in setting.comment}
    validate(_filled(schema(), content), path)
    return render(header or HEADER, _settings(schema(), content, reasons))


def read_recipe(name: str, root: Path) -> dict[str, Any]:
    """Return all settings of the recipe ``name`` of the repository at ``root`` as a plain dictionary."""
    return parse_params(complete_text(name, root), Path("recipes") / f"{name}.yaml")


def value_text(value: Any) -> str:
    """Return a value in YAML, always in the same form.

    Floats below 0.01 or from 1e4 on have an exponent. Text has quotes only where YAML would else read another value.
    """
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{value_text(key)}: {value_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        return value if _is_plain(value) else f'"{"".join(map(_escaped, value))}"'
    return _number(value) if isinstance(value, float) else json.dumps(value)


def _escaped(character: str) -> str:
    """Return a character as YAML has it between double quotes."""
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 1e4:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, *others = map(str, digits)
    mantissa = f"{first}.{''.join(others)}" if others else first
    return f"{'-' * sign}{mantissa}e{int(exponent) + len(others)}"


def _is_plain(text: str) -> bool:
    """Return whether YAML reads the text without quotes as itself."""
    if not _PLAIN.fullmatch(text) or text.lower() in _WORDS_OF_YAML_1_1:
        return False
    try:
        return bool(YAML(typ="safe", pure=True).load(text) == text)
    except (ValueError, YAMLError):
        return False


def _settings(model: type[Section], content: dict[str, Any], reasons: _Reasons, path: _Path = ()) -> list[SettingLine]:
    """Return the settings of ``model`` in its order, with the values in ``content`` or else their defaults."""
    settings = []
    for name, field in model.model_fields.items():
        here = (*path, name)
        section, value = section_of(field), content.get(name, _default(field))
        comment = " ".join((field.description or "").split())
        if here in reasons:
            comment += REASON + reasons[here]
        settings.append(SettingLine(here, "" if section else value_text(value), comment.strip()))
        if section:
            settings += _settings(section, {**_default(field), **value}, reasons, here)
    return settings


def _filled(model: type[Section], content: dict[str, Any]) -> dict[str, Any]:
    """Return ``content`` with the defaults of all that it lacks."""
    filled = dict(content)
    for name, field in model.model_fields.items():
        default = _default(field)
        if name not in content:
            filled[name] = default
        elif (section := section_of(field)) and isinstance(content[name], dict):
            filled[name] = _filled(section, {**default, **content[name]})
    return filled


def _default(field: FieldInfo) -> Any:
    return field.default.model_dump() if isinstance(field.default, Section) else field.default


def main() -> None:
    """Write both files; neither where params.yaml is refused."""
    default = Path("recipes") / "default.yaml"
    try:
        texts = {PARAMS_FILE: refreshed(read_text(PARAMS_FILE)), default: default_text()}
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    for path, text in texts.items():
        with replaced_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
