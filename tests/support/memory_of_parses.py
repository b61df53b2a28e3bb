"""Memory of what Python and YAML files say, since hundreds of tests in one process parse the same text."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentline.core import closure, load_params


def remember_parses(patch: pytest.MonkeyPatch) -> None:
    """Parse each text once: imports for the key of saved states, and params files. Errors are raised anew."""
    patch.setattr(closure, "_imported_names", _imports_by_text(closure._imported_names))
    patch.setattr(load_params, "parse_params", _params_by_text(load_params.parse_params))


def _imports_by_text(parse: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    found: dict[str, list[str]] = {}

    def imported_names(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        if text not in found:
            found[text] = parse(path)
        return list(found[text])

    return imported_names


def _params_by_text(parse: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def parse_params(text: str, path: Path = load_params.PARAMS_FILE) -> dict[str, Any]:
        if text not in found:
            found[text] = parse(text, path)
        return copy.deepcopy(found[text])

    return parse_params
