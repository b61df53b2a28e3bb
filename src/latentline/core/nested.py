"""Nested dictionaries, such as params.yaml and metrics."""

from typing import Any


def by_dotted_name(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by dotted name; lists and empty dictionaries are leaves."""
    leaves: dict[str, Any] = {}
    for name, value in content.items():
        nested = isinstance(value, dict) and value
        leaves |= by_dotted_name(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves
