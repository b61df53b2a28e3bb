"""The documentation's site: its navigation, what pages begin with, links of the repository, and no outside request."""

import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latentline.tools.site_requests import requests

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAVIGATION = re.findall(r"^ +- ([\w/.]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
BROWSERS_OWN = re.compile(r"https?://(clients2|accounts|update|content-autofill)\.google(apis)?\.com/")  # of any page


def test_every_page_is_in_the_navigation_once():
    assert sorted(NAVIGATION) == sorted(
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(str(page.relative_to(ROOT)) for page in PAGES)]
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "measurements"], ids=lambda page: page.stem
)
def test_a_page_begins_with_a_command(page):
    lines = page.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith(("    ", "```")) for line in lines[:12]), "no command among the first lines"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.stem)
def test_links_and_pictures_are_files_that_the_site_has_too(page):
    copied = re.search(r"^\tcp -R (.+) build/docs/$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert copied
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)#?([^):\s]*)\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert path.relative_to(ROOT).parts[0] in copied[1].split(), f"make docs copies no {target}"


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path):
    (tmp_path / "page.html").write_text(
        "<link rel=stylesheet href='//host/a.css'><link rel=canonical href='https://host/'><a href='https://host/'>x</a>"
        "<script src=https://host/a.js></script><img src=own.png><style>@import 'https://host/b.css';</style>"
        "<p style='background: url(http://host/b.png)'>https://host/c</p>"
    )
    (tmp_path / "own.css").write_text("a { src: url('https://host/a.woff2') } b { background: url(own.svg) }")
    assert [address for _, address in requests(tmp_path)] == [
        "https://host/a.woff2",
        "//host/a.css",
        "https://host/a.js",
        "http://host/b.png",
        "https://host/b.css",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("npm")), reason="needs chromium and npm")
def test_the_built_site_asks_for_nothing_from_elsewhere_in_a_browser(tmp_path):
    """Open pages with a graph, with pictures and with a search, while no name resolves; needs a network to build."""
    subprocess.run(["make", "docs", f"PYTHON={sys.executable}"], cwd=ROOT, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=ROOT / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for page in ("index.html", "docs/pipeline.html?q=sampler", "docs/reference/python.html"):
        log = tmp_path / "log.json"
        subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                *(f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=8000"),
                *("--screenshot=" + str(tmp_path / "page.png"), f"{address}/{page}"),
            ],
            check=True,
            capture_output=True,
        )
        events = json.loads(log.read_text())["events"]
        asked = {event["params"]["url"] for event in events if "url" in event.get("params", {})}
        of_page = {url for url in asked if not BROWSERS_OWN.match(url)}
        assert f"{address}/mermaid.tiny.js" in of_page
        assert {url for url in of_page if not url.startswith((address, "data:", "blob:", "chrome"))} == set()
    server.shutdown()
    server.server_close()
