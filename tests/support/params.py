"""Settings by their dotted names, as ``dvc exp run -S`` takes them."""

from collections.abc import Mapping
from typing import Any


def set_params(content: dict[str, Any], params: Mapping[str, object]) -> None:
    """Change values of a params file as read; each setting, ``section.name``, must exist already."""
    for setting, value in params.items():
        *parents, name = setting.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        assert name in section, setting
        section[name] = value
