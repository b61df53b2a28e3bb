"""The one line with which a params file is refused."""

import reprlib
from typing import Any

import pytest

from latentline.core.errors import UserError
from latentline.core.load_params import validate


def refusal(content: dict[str, Any]) -> str:
    """Return the one line with which ``content`` is refused."""
    with pytest.raises(UserError) as caught:
        validate(content)
    (line,) = str(caught.value).splitlines()
    return line


def shows(text: str, value: object) -> bool:
    """Return whether the text has the value, perhaps shortened; of a list, at least the number that is wrong."""
    if value is None:
        return "null" in text
    numbers = [repr(number) for number in value] if isinstance(value, list) else []
    return any(shown in text for shown in (reprlib.repr(value), str(value).lower(), *numbers))
