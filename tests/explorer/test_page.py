"""The explorer in a real browser: every tab shows its picture, nothing is asked of other servers.

Needs the extra ``test-explore`` and Chromium; CONTRIBUTING.md has the command.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="needs the extra explore")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra test-explore")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
TIMEOUT = 120_000  # milliseconds; a busy machine is slow
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def address(finished, root) -> Iterator[str]:
    """Yield the address of an explorer of the finished run."""
    environment = finished.environment(PYTHONPATH=str(root / "src"), PORT="0", HOST="")
    command = [sys.executable, "-m", "latentline.explorer"]
    with subprocess.Popen(command, cwd=finished.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"The explorer is at (http://127\.0\.0\.1:\d+/)", line):
                break
        else:
            pytest.fail("".join(lines))
        yield found[1]
        process.terminate()


class Browser:
    """A page of the explorer, which notes errors and requests to other servers."""

    def __init__(self, context, address: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.errors: list[str] = []
        self.outside: list[str] = []
        own = (address, "data:", "blob:")
        self.page.on("console", lambda note: note.type == "error" and self.errors.append(note.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda asked: asked.url.startswith(own) or self.outside.append(asked.url))
        self.page.goto(address)

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab).click()

    def picture(self, place: str) -> None:
        """Wait for a picture in the component of this id."""
        self.page.wait_for_function(
            "place => { const image = document.querySelector(`#${place} img`);"
            "return image && image.complete && image.naturalWidth > 40; }",
            arg=place,
        )

    def message(self) -> str:
        """Return the error that the page shows, once there is one."""
        return self.page.locator(".toast-body").first.inner_text()


@pytest.fixture
def browsers(address: str, tmp_path: Path) -> Iterator[list[Browser]]:
    """Yield two users' pages."""
    with playwright.sync_playwright() as player:
        context = player.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,
            args=QUIET,
            viewport={"width": 1240, "height": 1100},  # all of a tab: the mouse reaches no further
        )
        yield [Browser(context, address) for _ in range(2)]
        context.close()


def test_every_tab_shows_its_picture_to_two_users(browsers):
    for user in browsers:
        user.picture("sample-grid")
        user.picture("sample-steps")
    for tab, button, places in (
        ("Edit", "edit-run", ["edit-result"]),
        ("Interpolate", "interpolate-run", ["interpolate-strip", "interpolate-loop"]),
        ("Compare", "compare-run", ["compare-left", "compare-right"]),
    ):
        for user in browsers:  # both wait at the same time
            user.open(tab)
            user.page.click(f"#{button}")
        for user in browsers:
            for place in places:
                user.picture(place)
    _use_the_map(browsers[0])
    _paint(browsers[1])
    for user in browsers:
        assert user.errors == []
        assert user.outside == []


def _use_the_map(user: Browser) -> None:
    user.open("Map")
    user.page.wait_for_selector("#map-points circle[data-i]")
    point = user.page.locator("#map-points circle[data-i='3']")
    point.hover(force=True)
    assert user.page.locator("#map-points .tip").is_visible()
    point.click(force=True)
    user.picture("map-decoded")


def _paint(user: Browser) -> None:
    user.open("Repair")
    canvas = user.page.locator("#repair-editor canvas").first
    canvas.wait_for()
    user.page.wait_for_timeout(3000)  # until the editor has its image; it says so nowhere
    box = canvas.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    user.page.mouse.move(*middle)
    user.page.mouse.down()
    for step in range(10):
        user.page.mouse.move(middle[0] + 4 * step, middle[1] + 2 * step)
    user.page.mouse.up()
    user.page.wait_for_timeout(1000)
    user.page.click("#repair-run")
    user.picture("repair-result")


def test_hostile_files_end_in_one_line_on_the_page(browsers, tmp_path):
    user = browsers[0]
    user.picture("sample-grid")
    user.open("Edit")
    user.picture("edit-result")
    user.page.locator("label", has_text="Your file").locator("visible=true").first.click()
    bad = tmp_path / "..%2f..%2fpasswd.png"
    bad.write_text("no picture")
    user.page.locator("input[type=file]").first.set_input_files(bad)  # an edit follows
    assert "file must be a readable image" in user.message()
    assert user.outside == []


def test_the_server_gives_no_file_of_the_machine(address, finished):
    """Ask by path, and in place of an upload."""
    for path in ("file=/etc/passwd", "gradio_api/file=/etc/passwd", f"gradio_api/file={finished.folder}/params.yaml"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path, timeout=60)
        assert refused.value.code in (403, 404)
    picked = ["Your file", 0, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
    body = json.dumps({"data": [*picked, *picked, "linear", 4]}).encode()
    asked = urllib.request.Request(f"{address}gradio_api/call/interpolate", body, {"Content-Type": "application/json"})
    event = json.loads(urllib.request.urlopen(asked, timeout=60).read())["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/interpolate/{event}", timeout=120) as stream:
        answer = stream.read().decode()
    assert "event: error" in answer
    assert "root:" not in answer


def test_the_page_names_no_other_server(address):
    with urllib.request.urlopen(address, timeout=60) as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    assert not re.findall(r"""(?:src|href)=["']?https?://""", page)


@pytest.mark.parametrize(
    ("variables", "named"), [({"PORT": "no"}, "PORT"), ({"PORT": "99999"}, "PORT"), ({"HOST": "192.0.2.1"}, "HOST")]
)
def test_bad_addresses_are_refused(finished, root, variables, named):
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PORT": "0", **variables}
    command = [sys.executable, "-m", "latentline.explorer"]
    done = subprocess.run(
        command, cwd=finished.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {named}")
    assert len(done.stderr.splitlines()) == 1
