"""The page in Chromium, from a plain file server: its pictures are those of run.py and of the run itself.

It needs playwright, the browser and npm: ``.venv/bin/pip install -e '.[test-web]'``.
"""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.data.store import to_unit_range
from latentline.latents.cache import read_stats
from latentline.tools import onnx_run
from latentline.web.__main__ import export_web
from latentline.web.vendored import cache_folder
from stages.manipulate.sdedit import SDEdit
from stages.sample.draw import ImageSampler, load_image_sampler
from stages.sample.params import SampleParams
from support.exported_run import VELOCITY, V, write_latent_classifiers, write_moments, write_run
from support.small_networks import IMAGE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT = 120_000  # milliseconds


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Visit:
    """A page in the browser, what it printed, and what it asked of others."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.complaints = page, []
        page.on("console", lambda message: message.type != "error" or self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))
        page.on(
            "request", lambda request: request.url.startswith((address, "data:")) or self.complaints.append(request.url)
        )
        page.goto(address)
        self.wait("seconds")

    def wait(self, word: str) -> None:
        status = self.page.locator("#status", has_text=word).or_(self.page.locator("#status.error"))
        status.wait_for(timeout=TIMEOUT)
        assert word in status.text_content(), status.text_content()

    def draw(self, **values: str) -> None:
        """Fill in fields by their id, and wait for the pictures."""
        for name, value in values.items():
            field = self.page.locator(f'[id="{name.replace("__", " ")}"]')
            if field.evaluate("node => node.tagName") == "SELECT":
                field.select_option(label=value)
            else:
                field.fill(value)
        self.page.click("#draw button:not([type])")
        self.wait("seconds")

    def pictures(self, within: str = "#grid") -> np.ndarray:
        """Return the pixels (N, C, H, W) on the canvases in an element."""
        channels, height, width = IMAGE
        script = f"node => [...node.getContext('2d').getImageData(0, 0, {width}, {height}).data]"
        rows = [canvas.evaluate(script) for canvas in self.page.locator(f"{within} canvas").all()]
        return np.array(rows).reshape(-1, height, width, 4).transpose(0, 3, 1, 2)[:, :channels]

    def slide(self, name: str, strength: float) -> None:
        slider = self.page.locator(f'#sliders label[title="{name}"] input')
        slider.evaluate("(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", strength)


@pytest.fixture
def server(workplace: Path) -> Iterator[ThreadingHTTPServer]:
    """Serve the folder "page" as `python -m http.server` does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(workplace / "page"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def visit(server: ThreadingHTTPServer, write_params: Any) -> Iterator[Any]:
    """Return a function that exports the run in the current folder and opens its page."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))  # with a profile of its own

        def opened(**settings: object) -> Visit:
            write_params(Path(), {f"sample.{name}": value for name, value in settings.items()})
            try:
                export_web(Path("page"), cache_folder())
            except UserError as error:
                pytest.skip(str(error))
            return Visit(browser.new_page(), f"http://127.0.0.1:{server.server_port}/")

        yield opened
        browser.close()


def _ours(seed: int, **settings: object) -> ImageSampler:
    return load_image_sampler(SampleParams(count=10, **settings), seed, torch.device("cpu"))


def _assert_equal(pictures: np.ndarray, expected: np.ndarray) -> None:
    """Require pictures that differ by one level of 256 at most."""
    assert pictures.shape == expected.shape
    assert np.abs(pictures - np.asarray(expected).astype(int)).max() <= 1
    assert expected.std() > 1


@pytest.mark.parametrize(
    ("denoiser", "autoencoder", "process", "condition", "settings"),
    [
        ("unet", "vae", VELOCITY, ["label"], {}),
        ("dit", "ae", V, ["label"], {"sampler": "heun", "guidance_rescale": 0.7}),
        ("mlp", "diffae", V, [], {"sampler": "dpmpp_2m"}),
    ],
)
def test_pictures_are_those_of_the_run(denoiser, autoencoder, process, condition, settings, visit):
    write_run(denoiser, autoencoder, process, condition)
    maps = None if denoiser == "dit" else write_moments(classes=3 if condition else 0, **settings)
    browser = visit(**settings)
    matched = replace(_ours(0, **settings), moments=maps)
    _assert_equal(browser.pictures()[:3], matched.images(torch.arange(3)).numpy())
    browser.draw(seed="5", count="6", steps="4")
    _assert_equal(browser.pictures(), _ours(5, **settings, steps=4).images(torch.arange(6)).numpy())
    assert browser.page.locator("#edit").is_hidden()  # without latent classifiers
    assert browser.complaints == []


def test_choices_edits_and_files(visit):
    write_run("unet", "vae", VELOCITY)
    write_latent_classifiers(8)
    browser = visit()
    browser.draw(attribute__label="bag", attribute__wide="yes", attribute__level="12", seed="3", count="5")
    pipeline = onnx_run.Pipeline(Path("page"))
    schema = pipeline.numbers["condition"]["attributes"]
    condition = onnx_run.condition_vectors(schema, {"label": "bag", "wide": "1", "level": "12"}, 5)
    noise = onnx_run.start_noise(3, "sample", 5, pipeline.numbers["latent_shape"])
    _assert_equal(browser.pictures(), onnx_run.to_uint8(pipeline.images(noise, condition)))
    _check_edit(browser, torch.from_numpy(pipeline.latents(noise, condition)))
    _check_file(browser)
    assert browser.complaints == []


def _check_edit(browser: Visit, z0: torch.Tensor) -> None:
    """Edit picture 4 towards "boot", away from "wide": by the directions alone, then with SDEdit."""
    sampler, stats = _ours(0), read_stats()
    names = [
        target["name"] for target in browser.page.evaluate("fetch('page.json').then((file) => file.json())")["targets"]
    ]
    directions = torch.from_numpy(np.fromfile("page/directions.f32", "<f4")).reshape(len(names), *stats.shape)
    moved = z0[4:] + 2 * directions[names.index("boot")] - 1.5 * directions[names.index("wide")]
    browser.page.locator("#grid button").nth(4).click()
    browser.page.uncheck("#refine")
    browser.slide("wide", -1.5)
    browser.slide("boot", 2)

    def expect(latents: torch.Tensor) -> None:
        expected = sampler.autoencoder.decode(stats.normalizer.restore(latents)).numpy()
        browser.page.wait_for_timeout(1000)
        _assert_equal(browser.pictures("#views")[-1:], expected)

    expect(moved)
    labels = LabelTable(stats.schema, torch.tensor([[0.0, 1.0, 12.0]] * 2))  # a boot, with the picture's other values
    sdedit = SDEdit(sampler.denoiser, t=0.5, steps=4, guidance_scale=1.0, seed=0)
    browser.page.check("#refine")
    twice = sdedit(moved.expand(2, *stats.shape), labels, torch.tensor([4, 4]))  # small networks refuse a single latent
    expect(twice[:1])


def _check_file(browser: Visit) -> None:
    """Open a picture of the run's size, one of another size, and a file that is no picture."""
    pixels = np.random.default_rng(0).integers(0, 256, IMAGE[1:], np.uint8)
    Image.fromarray(pixels).save("own.png")
    browser.page.click("text=Reset")
    browser.page.set_input_files("#file", "own.png")
    browser.wait("own.png is in")
    sampler = _ours(0)
    raw = sampler.autoencoder.network.encode(to_unit_range(torch.from_numpy(pixels)[None, None]))
    reconstruction = sampler.autoencoder.decode(raw).numpy()
    _assert_equal(browser.pictures("#views"), np.concatenate([pixels[None, None], reconstruction, reconstruction]))
    Image.fromarray(np.kron(pixels, np.ones((9, 16), np.uint8))).save("wide.png")
    browser.page.set_input_files("#file", "wide.png")
    browser.wait("wide.png is in")
    Path("no.png").write_text("no picture")
    browser.page.set_input_files("#file", "no.png")
    browser.page.locator("#status.error").wait_for()
    assert browser.page.text_content("#status") == (
        "Error: no.png must be a picture that this browser can open; choose a PNG or JPEG file"
    )
