"""Name -> source."""

from pathlib import Path

from latentline.data.digits import read_digits
from latentline.data.fashion_mnist import read_fashion_mnist
from latentline.data.source import Source


def read_source(name: str, *, root: Path | None, timeout_seconds: float) -> Source:
    """Read data set ``name`` (``data.name``). Raises UserError when it cannot be had, KeyError for an unknown name."""
    readers = {
        "fashion_mnist": lambda: read_fashion_mnist(root, timeout_seconds),
        "digits": read_digits,
    }
    return readers[name]()
