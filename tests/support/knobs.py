"""Knobs by their dotted names, as ``dvc exp run -S`` takes them."""

from collections.abc import Mapping
from typing import Any


def set_knobs(content: dict[str, Any], knobs: Mapping[str, object]) -> None:
    """Change values of a params file as read; each knob, ``section.name``, must be there already."""
    for knob, value in knobs.items():
        *parents, name = knob.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        assert name in section, knob
        section[name] = value
