"""Commands of a page of docs/, run as they stand there."""

import shlex
from pathlib import Path

from support.checkout import Checkout


class Page:
    """A page of the documentation; ``instead`` has this test's names for those that the page takes as examples."""

    def __init__(self, path: Path, instead: dict[str, str]) -> None:
        self.lines = path.read_text().splitlines()
        self.instead = instead

    def run(self, checkout: Checkout, line: str) -> str:
        """Run ``line``, which must be an indented line of the page."""
        assert f"    {line}" in self.lines
        for example, name in self.instead.items():
            line = line.replace(example, name)
        command = shlex.split(line)
        if command[0] == "make":  # with the environment of this test, not one built in the copy
            return checkout.run("make", "--assume-old=.venv/.installed", *command[1:], PYTHONPATH="src").stdout
        return checkout.run(*command).stdout
