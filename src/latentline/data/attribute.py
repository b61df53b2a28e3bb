"""What is known of every image beside, or instead of, its class."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Attribute:
    """One column of ``attributes``."""

    name: str
    kind: Literal["binary", "categorical", "continuous"]
    """binary: 0 or 1. categorical: index into ``classes``. continuous: the number itself."""
    classes: tuple[str, ...] = ()
