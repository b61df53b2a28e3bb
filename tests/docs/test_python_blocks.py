"""Every ```python block of README.md and docs/*.md runs beside a small run, or the page states why it does not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = 2  # blocks with a reason, over all pages; raise it on purpose only
MARK = "<!-- not run:"
BLOCK = re.compile(
    rf"(?:^{MARK}(?P<reason>[^\n]*)-->\n)?^```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Pages name classes of Fashion-MNIST; the small run has the digits "0" to "9" in their place.
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


@dataclass(frozen=True)
class Block:
    """A block of a page; ``line`` is the page's line number of its first line of code."""

    page: Path
    line: int
    code: str
    reason: str | None

    def run(self, namespace: dict[str, Any]) -> None:
        """Execute the code in ``namespace``; an error's traceback has the page's own line number."""
        names = "|".join(map(re.escape, CLASSES))
        code = re.sub(f'"({names})"', lambda found: f'"{CLASSES.index(found[1])}"', self.code)
        program = compile("\n" * (self.line - 1) + code, str(self.page), "exec")
        exec(program, namespace)  # noqa: S102 - code of our own pages


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text[: found.start("code")].count("\n") + 1
        reason = found["reason"]
        yield Block(page, line, found["code"], None if reason is None else reason.strip())


BLOCKS = [block for page in PAGES for block in _blocks(page)]
RUNNABLE = sorted({block.page for block in BLOCKS if block.reason is None})


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order_in_one_namespace(page, finished, tmp_path, monkeypatch):
    for entry in finished.folder.iterdir():  # what a block writes stays in tmp_path
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in BLOCKS:
        if block.page == page and block.reason is None:
            block.run(namespace)


def test_a_block_that_is_not_run_has_a_reason():
    reasons = [block.reason for block in BLOCKS if block.reason is not None]
    assert len(reasons) == NOT_RUN
    assert all(len(reason.split()) >= 3 for reason in reasons), reasons
    assert sum(page.read_text().count(MARK) for page in PAGES) == NOT_RUN  # each mark stands just above its block


def test_the_pages_for_python_have_blocks_and_no_python_stands_outside_of_them():
    assert {"editing.md", "library.md"} <= {page.name for page in RUNNABLE}
    for page in PAGES:
        outside = BLOCK.sub("", page.read_text())
        assert not re.search(r"^\s+(from \w+(\.\w+)* import |import \w+$)", outside, re.MULTILINE), page


def test_an_error_names_the_line_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nfine = 1\n1 / 0\n```\n")
    (block,) = _blocks(page)
    with pytest.raises(ZeroDivisionError) as caught:
        block.run({})
    assert caught.traceback[-1].lineno + 1 == 5
