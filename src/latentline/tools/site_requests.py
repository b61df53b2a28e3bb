"""Refuse a built site whose pages load anything from elsewhere: ``python site_requests.py site``.

It imports nothing of ours, since `make docs` runs it in an environment without torch.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_OF_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
_LINKS = {"stylesheet", "preload", "modulepreload", "preconnect", "dns-prefetch", "icon", "manifest", "prefetch"}


class _Loads(HTMLParser):
    """Collect what a page loads without a click; links that a reader may follow are none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the addresses of one tag."""
        values = dict(attrs)
        addresses = [values.get(name) for name in ("src", "srcset", "poster", "data")]
        if tag == "link" and _LINKS & set((values.get("rel") or "").lower().split()):
            addresses.append(values.get("href"))
        self.found += [address for address in addresses if address and _ELSEWHERE.match(address)]
        self.found += _OF_STYLES.findall(values.get("style") or "")


def requests(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and address for each script, style, font or picture from elsewhere.

    Scripts that a page would load only later, from a script, are not found: a test opens the pages in a browser.
    """
    for file in sorted(site.rglob("*")):
        if file.suffix == ".html":
            text = file.read_text(encoding="utf-8")
            page = _Loads()
            page.feed(text)
            styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL | re.IGNORECASE)
            yield from ((file, address) for address in page.found)
            yield from ((file, address) for style in styles for address in _OF_STYLES.findall(style))
        elif file.suffix == ".css":
            yield from ((file, address) for address in _OF_STYLES.findall(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    lines = [f"error: {file} loads {address}; ship it with the site" for file, address in requests(Path(sys.argv[1]))]
    sys.exit("\n".join(lines) or None)
