"""Commands of a page of docs/, run as the page gives them."""

import shlex
from pathlib import Path

from support.checkout import Checkout


class Page:
    """A page of the documentation; ``instead`` maps the page's example names to the test's own."""

    def __init__(self, path: Path, instead: dict[str, str]) -> None:
        self.lines = path.read_text().splitlines()
        self.instead = instead

    def run(self, checkout: Checkout, line: str) -> str:
        """Run ``line``, which must be an indented line of the page."""
        assert f"    {line}" in self.lines
        for example, name in self.instead.items():
            line = line.replace(example, name)
        command = shlex.split(line)
        if command[0] == "make":  # with this test's environment, not one built in the copy
            return checkout.run("make", "--assume-old=.venv/.installed", *command[1:], PYTHONPATH="src").stdout
        return checkout.run(*command).stdout
