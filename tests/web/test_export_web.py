"""``make export-web``: the folder is complete, asks nothing of other servers, and has the numbers of our stages."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_SHARDS
from latentline.core.seeds import start_noise
from latentline.latents.cache import read_labels, read_stats
from latentline.web import __main__ as command
from latentline.web import vendored
from stages.manipulate.directions import edit_directions
from stages.manipulate.params import ManipulateParams
from stages.sample.draw import load_image_sampler
from stages.sample.params import SampleParams
from support.exported_run import VELOCITY, write_latent_classifiers, write_moments, write_run

PAGE = Path(command.__file__).with_name("page")
TITLES = {f"{section}-title" for section in ("draw", "edit", "about")}  # which label their sections
RUNTIME = ("onnxruntime/onnxruntime.js", "onnxruntime/onnxruntime.wasm")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package with the files of onnxruntime-web that the page needs, and no content."""
    for name in vendored.FILES:
        path = tmp_path / "packed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as archive:
        archive.add(tmp_path / "packed" / "package", "package")
    return tmp_path / "packed.tgz"


@pytest.fixture
def export(workplace: Path, package: Path, monkeypatch: pytest.MonkeyPatch, write_params: Any) -> Iterator[Any]:
    """Return a function that exports an untrained run in the current folder, with some settings."""
    monkeypatch.setattr(command, "fetch_runtime", lambda cache: package)
    monkeypatch.setattr(command, "_STEPS", (1, 4, 12))  # a few, which are computed sooner
    write_run("mlp", "ae of vectors", VELOCITY)
    write_latent_classifiers(3)

    def write(**settings: object) -> dict[str, Any]:
        write_params(workplace, {name.replace("__", "."): value for name, value in settings.items()})
        command.export_web(workplace / "page", workplace)
        return json.loads((workplace / "page" / "page.json").read_text())

    yield write


def _directions() -> np.ndarray:
    return np.fromfile("page/directions.f32", "<f4").reshape(-1, 3)


def test_the_folder_is_complete_and_asks_nothing_of_other_servers(export: Callable[..., dict[str, Any]]):
    page = export(data__name="array", data__path="<b>.npz")
    folder = Path("page")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {path.name for path in PAGE.iterdir()}
    networks = {f"{name}.onnx" for name in ("encoder", "decoder", "denoiser", "guide")}
    assert names == own | networks | {*RUNTIME, "page.json", "pipeline.json", "directions.f32", "run.py"}
    assert page["bytes"] == {name: (folder / name).stat().st_size for name in {*networks, RUNTIME[1]}}
    text = "".join((folder / name).read_text() for name in own)
    assert not re.search(r"(https?:)?//[\w.]+\.\w", text.replace("// ", ""))
    assert not re.search(r"https?:|\beval\(|innerHTML", text)
    policy = re.search(r'content="(default-src[^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    assert set(re.findall(r"\S+:|'[\w-]+'", policy[1])) == {"'none'", "'self'", "'wasm-unsafe-eval'", "data:"}
    linked = set(re.findall(r'(?:src|href|from) ?=?"(?!data:)(?:\./)?([\w./]+)"', text))
    assert linked == {"style.css", "page.js", "run.py", "pipeline.js", RUNTIME[0]}
    assert set(re.findall(r'\$\("([\w-]+)"\)', text)) == set(re.findall(r' id="([\w-]+)"', text)) - TITLES
    assert "<h1>array</h1>" in text


def test_moment_maps_go_along_and_their_bytes_are_counted(export: Callable[..., dict[str, Any]]):
    write_moments(3)
    page = export()
    assert page["bytes"]["moments.onnx"] == Path("page/moments.onnx").stat().st_size
    assert json.loads(Path("page/pipeline.json").read_text())["moments"]


def test_samplers_have_every_number_of_steps(export: Callable[..., dict[str, Any]]):
    page = export(sample__steps=9)
    pipeline = json.loads(Path("page/pipeline.json").read_text())
    assert page["steps"] == 9
    assert list(page["samplers"]) == ["1", "12", "4", "9"]
    evaluations = pipeline["sampler"]["evaluations"]
    assert [step["state"] for step in page["samplers"]["9"]["evaluations"]] == [step["state"] for step in evaluations]
    for steps, table in page["samplers"].items():
        assert len(table["times"]) == int(steps) + 1
        assert len(table["result"]) == len(table["evaluations"]) + 1
    assert page["sdedit"]["alpha"] == page["sdedit"]["sigma"] == 0.5
    assert page["sdedit"]["evaluations"][0]["t"] == 0.5


def _notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said about sliders."""
    return [record.getMessage() for record in caplog.records if record.name == "latentline.web.directions"]


@pytest.mark.parametrize("direction", ["classifier", "mean_difference"])
def test_sliders_move_as_stage_manipulate(direction: str, export: Callable[..., dict[str, Any]], caplog):
    page = export(manipulate__direction=direction, manipulate__strengths=[-1, 2])
    stats = read_stats()
    params = ManipulateParams(direction=direction)
    targets, expected, _ = edit_directions(params, 0, stats, read_labels(stats.schema))
    assert [target["name"] for target in page["targets"]] == [target.name for target in targets]
    assert page["targets"][1] == {"name": "bag", "attribute": "label", "value": 1}
    if direction == "classifier":
        assert page["targets"][-1] == {"name": "level", "attribute": "level", "value": 14}
        assert _notes(caplog) == []
    else:  # no image has a level above the mean
        assert _notes(caplog) == ["no slider for level: nothing could be learnt"]
    assert page["strengths"] == [-1, 2]
    np.testing.assert_allclose(_directions(), expected.vectors * expected.scales[:, None], rtol=1e-5)


def test_without_training_latents_drawn_ones_are_the_unit(export: Callable[..., dict[str, Any]]):
    shutil.rmtree(LATENT_SHARDS)
    page = export(manipulate__target_names=["wide", "bag"])
    assert [target["name"] for target in page["targets"]] == ["bag", "wide"]
    sampler = load_image_sampler(SampleParams(count=512), 0, torch.device("cpu"))
    nan = torch.full_like(sampler.labels.values[:, 1:], float("nan"))
    sampler.labels.values[:, 1:] = nan  # the page's have their class alone
    z0 = sampler.latents(torch.arange(512))
    lengths = np.linalg.norm(_directions(), axis=1)
    along = z0.numpy() @ (_directions() / lengths[:, None]).T
    np.testing.assert_allclose(along.std(axis=0, ddof=1), lengths, rtol=1e-3)


def test_sliders_beyond_the_limit_are_counted(export: Callable[..., dict[str, Any]], caplog):
    assert len(export(manipulate__targets=2)["targets"]) == 2
    assert _notes(caplog) == ["sliders for 2 of 5 targets (manipulate.targets)"]


def test_without_latent_classifiers_there_are_no_sliders(export: Callable[..., dict[str, Any]]):
    LATENT_CLASSIFIERS.unlink()
    assert export()["targets"] == []
    assert not Path("page/directions.f32").exists()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a script in the place of npm."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return install


def test_the_runtime_is_fetched_once_and_compared(tmp_path: Path, package: Path, npm: Any, monkeypatch: Any):
    cache, name = tmp_path / "cache", f"onnxruntime-web-{vendored.VERSION}.tgz"
    npm(f"cp {package} {name}")
    with pytest.raises(UserError, match=r"onnxruntime-web-[\d.]+tgz \(sha512-.{12}\.\.\.\) must be sha512-q0y"):
        vendored.fetch_runtime(cache)
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    monkeypatch.setattr(vendored, "_SHA512", digest)
    npm("exit 1")
    fetched = vendored.fetch_runtime(cache)  # from the cache
    assert [path.name for path in cache.iterdir()] == [name]
    vendored.write_runtime(tmp_path / "onnxruntime", fetched)
    assert sorted(path.name for path in (tmp_path / "onnxruntime").iterdir()) == ["onnxruntime.js", "onnxruntime.wasm"]


def test_what_keeps_npm_from_fetching_is_said_in_one_line(workplace: Path, npm: Any, monkeypatch: Any):
    npm("echo npm error code ENOTFOUND >&2; echo npm error network >&2; exit 1")
    with pytest.raises(UserError, match=r"^npm could not fetch onnxruntime-web [\d.]+ \(code ENOTFOUND\); connect .*$"):
        vendored.fetch_runtime(workplace / "cache")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"^make export-web needs npm, .*; install npm, or put onnxruntime-"):
        vendored.fetch_runtime(workplace / "cache")
    assert not list((workplace / "cache").iterdir())


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's module")
def test_the_pages_noise_and_conditions_are_ours(tmp_path: Path):
    shutil.copyfile(PAGE / "pipeline.js", tmp_path / "pipeline.mjs")
    sizes = (1, 2, 15, 16, 17, 294)
    (tmp_path / "main.mjs").write_text(
        'import { startNoise, conditionVector, valuesOf } from "./pipeline.mjs";\n'
        f'const noise = {list(sizes)}.map((size) => [0, 41].map((i) => [...startNoise("7", "sample", i, size)]));\n'
        'const schema = [{ name: "label", kind: "categorical", classes: ["a", "b", "c"] },'
        ' { name: "wide", kind: "binary" }, { name: "level", kind: "continuous", mean: 10, std: 4 }];\n'
        "const chosen = [{}, { label: 2, level: 12 }, { wide: 0 }];\n"
        "const vectors = chosen.map((values) => conditionVector(schema, valuesOf(schema, values, 4)));\n"
        "console.log(JSON.stringify({ noise, vectors }));\n"
    )
    result = json.loads(subprocess.check_output(["node", tmp_path / "main.mjs"]))
    for size, rows in zip(sizes, result["noise"], strict=True):
        np.testing.assert_allclose(rows, start_noise(7, "sample", torch.tensor([0, 41]), (size,)), atol=1e-6)
    assert result["vectors"] == [[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0.5], [0, 0, 0, -1, 0, 0]]
