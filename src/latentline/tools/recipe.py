"""Write params.yaml from a recipe: ``make recipe NAME=digits``.

recipes/default.yaml is whole. Every other recipe has only the settings in which it differs, nested in the same way, and
a comment where the reason is not obvious. The result has all settings with the default's comments and these reasons.
This file needs Python 3.8 or newer and nothing else, so that it works before anything is installed.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

REASON = " Here: "
"""What stands in a comment between the setting's explanation and the reason for its value."""
_COLUMNS = 120
_INDENT = 2
_LINE = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z_]\w*):(?P<rest>\s.*)?")
_NOT_PLAIN = tuple("&*!|>%@`")  # what YAML's anchors, tags, blocks and the like begin with


class RecipeError(ValueError):
    """A recipe that is missing or wrong. The message is one line."""


class SettingLine(NamedTuple):
    """One line of a params file: a setting, or the head of a section, whose value is empty."""

    path: tuple[str, ...]
    value: str
    comment: str

    @property
    def name(self) -> str:
        """The dotted name."""
        return ".".join(self.path)


def complete_text(name: str, root: Path) -> str:
    """Return the whole params file of the recipe ``name`` of the repository at ``root``.

    Raises:
        RecipeError: one line with the recipe, the setting, what is expected and the remedy.
    """
    folder = root / "recipes"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise RecipeError(f"NAME ({name}) must be one of {', '.join(names)}; run `make recipe NAME=default`")
    default = _read(folder / "default.yaml")
    return default if name == "default" else merge(default, _read(folder / f"{name}.yaml"), f"recipes/{name}.yaml")


def merge(default: str, recipe: str, source: str) -> str:
    """Return the text ``default`` with the values, reasons and header of ``recipe``, which messages call ``source``."""
    header, settings = read_settings(default, "recipes/default.yaml")
    own_header, changes = read_settings(recipe, source)
    merged = {setting.path: setting for setting in settings}
    sections = {setting.path[:-1] for setting in settings}
    for change in changes:
        if change.path not in merged:
            close = difflib.get_close_matches(change.name, [setting.name for setting in settings], 1)
            remedy = f"rename it to {close[0]}" if close else "remove it"
            raise RecipeError(f"{source}: {change.name} must be a setting of recipes/default.yaml; {remedy}")
        if change.path in sections and change.value:
            raise RecipeError(f"{source}: {change.name} ({change.value}) must be a section; write its settings below")
        if change.path not in sections and not change.value:
            raise RecipeError(f"{source}: {change.name} must have a value on its own line; write one")
        setting = merged[change.path]
        comment = f"{setting.comment}{REASON}{change.comment}" if change.comment else setting.comment
        merged[change.path] = SettingLine(change.path, change.value, comment.strip())
    return render([*header, "#", *own_header] if own_header else header, list(merged.values()))


def read_settings(text: str, source: str, strict: bool = True) -> tuple[list[str], list[SettingLine]]:
    """Return the lines of the header comment, and the settings in the file's order, sections before their settings.

    A setting's comment stands behind its value, or above it. The header is the comment that the file begins with, if an
    empty line follows. Lines of another form raise RecipeError; with ``strict`` False they are left out.
    """
    head, blank, body = text.partition("\n\n")
    header = head.splitlines()
    if not blank or not all(line.startswith("#") for line in header):
        header, body = [], text
    settings: dict[tuple[str, ...], SettingLine] = {}
    above: list[str] = []
    path: tuple[str, ...] = ()
    for number, line in enumerate(body.splitlines(), start=text[: len(text) - len(body)].count("\n") + 1):
        if not line.strip():
            above = []
            continue
        if line.lstrip(" ").startswith("#"):
            above.append(line.strip().lstrip("#").strip())
            continue
        match = _LINE.fullmatch(line.rstrip())
        value, comment = _split_comment(match["rest"] or "") if match else ("", "")
        level, odd = divmod(len(match["indent"]) if match else 0, _INDENT)
        fits = level <= len(path) and not (level == len(path) > 0 and settings[path].value)
        fits = fits and (level > 0 or not value.startswith("{"))  # a section has its settings below; {} is a mapping
        if match and not odd and fits and not value.startswith(_NOT_PLAIN):
            path = (*path[:level], match["name"])
            if path in settings:
                raise RecipeError(f"{source}: line {number} ({'.'.join(path)}) must not repeat a setting; remove one")
            settings[path] = SettingLine(path, value, " ".join([*above, comment]).strip())
        elif strict:
            expected = "`name: value` with a plain value, indented by 2 for each section"
            raise RecipeError(f"{source}: line {number} ({line.strip()}) must be {expected}; mend it")
        above = []
    return header, list(settings.values())


def render(header: list[str], settings: list[SettingLine]) -> str:
    """Return the text of a params file. A comment stands behind its value where the line stays within 120 columns."""
    lines = list(header)
    for setting in settings:
        if len(setting.path) == 1:
            lines.append("")
        indent = " " * _INDENT * (len(setting.path) - 1)
        line = f"{indent}{setting.path[-1]}: {setting.value}".rstrip()
        beside = f"{line}  # {setting.comment}"
        if not setting.comment:
            lines.append(line)
        elif len(beside) <= _COLUMNS:
            lines.append(beside)
        else:
            start = f"{indent}# "
            lines += textwrap.wrap(
                setting.comment,
                _COLUMNS,
                initial_indent=start,
                subsequent_indent=start,
                break_long_words=False,
                break_on_hyphens=False,
            )
            lines.append(line)
    return "\n".join(lines) + "\n"


def _split_comment(rest: str) -> tuple[str, str]:
    """Return value and comment of what follows a setting's colon; a # in quotes or after no blank is text."""
    quote = ""
    for index, character in enumerate(rest):
        before = rest[:index].rstrip()
        if quote:
            quote = "" if character == quote and not (quote == '"' and rest[index - 1] == "\\") else quote
        elif character in "\"'" and (not before or before[-1] in "[{,:"):
            quote = character
        elif character == "#" and rest[index - 1 : index].isspace():
            return before.strip(), rest[index + 1 :].strip()
    return rest.strip(), ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{path} must be readable UTF-8 text ({reason}); run `git checkout {path}`") from None


def main(arguments: list[str]) -> int:
    """Write params.yaml, whole or not at all, and return the exit status."""
    root = Path(__file__).resolve().parents[3]
    try:
        text = complete_text(" ".join(arguments), root)
    except RecipeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    temporary = root / ".partial-params.yaml"
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        kept = _keep_edited(root)
        temporary.replace(root / "params.yaml")
    except OSError as error:
        sys.stderr.write(f"error: params.yaml must be a file that can be written ({error}); check the folder\n")
        return 2
    sys.stdout.write(f"params.yaml is now recipe {' '.join(arguments)}{kept}\n")
    return 0


def _keep_edited(root: Path) -> str:
    """Copy a params.yaml that is no recipe to params.yaml.orig; return the words that say so."""
    params = root / "params.yaml"
    if not params.is_file():
        return ""
    own = params.read_bytes()
    names = sorted(path.stem for path in (root / "recipes").glob("*.yaml"))
    try:
        if own in [complete_text(name, root).encode() for name in names]:
            return ""
    except RecipeError:  # of another recipe
        pass
    (root / "params.yaml.orig").write_bytes(own)
    return "; what it was, with your changes, is in params.yaml.orig"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
