"""Stages that work in chunks, killed at each chunk and continued: the same bytes, and no chunk is computed twice."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from latentline.core.files import sha256_file
from latentline.core.interrupt import InterruptedRunError
from latentline.runtime.resumable_map import ResumableMap
from support.stage_runs import DIGITS, run_stage, use_small_chunks

pytestmark = pytest.mark.usefixtures("machine")

SETTINGS = {**DIGITS, "compute.save_every_seconds": 1e-9}
# The outs of a stage, and the number of its chunks. encode: 25 images each of 60, 60 and 60. sample: 10 each of 38.
# evaluate: 25 each of 60, 38, 60, 60 and 38. manipulate: 2 strengths, 2 kinds of direction, 2 targets.
STAGES = {
    "encode_and_cache_latents": (("encoded_img", "fig/latents"), 9),
    "sample": (("data/generated", "fig/sample", "metrics/sample.json"), 4),
    "evaluate": (("fig/evaluate", "metrics/evaluate.json"), 13),
    "manipulate": (("fig/manipulate", "metrics/manipulate.json"), 8),
}


@pytest.fixture(scope="module")
def folder(digits_run: Path, tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """Return a copy of ``digits_run`` whose stages save after every chunk."""
    folder = shutil.copytree(digits_run, tmp_path_factory.mktemp("killed") / "run")
    write_params(folder, SETTINGS)
    return folder


@pytest.fixture
def computed(folder: Path, monkeypatch) -> list[int]:
    """Enter the folder; return the list to which :func:`_watch` adds the chunks that stages compute there."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    use_small_chunks(monkeypatch)
    return []


def _watch(monkeypatch, computed: list[int], before_chunk: Callable[[int], None] = lambda chunk: None) -> None:
    """Count the chunks that are computed, and call ``before_chunk`` before each."""
    compute = ResumableMap._compute

    def watched(chunks, number, make):
        before_chunk(len(computed))
        computed.append(number)
        return compute(chunks, number, make)

    monkeypatch.setattr(ResumableMap, "_compute", watched)


def _digests(outs: tuple[str, ...]) -> dict[str, str]:
    paths = [path for out in map(Path, outs) for path in ([out] if out.is_file() else sorted(out.rglob("*")))]
    return {str(path): sha256_file(path) for path in paths if path.is_file()}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("how", ["fails", "is asked to stop"])
def test_a_stage_killed_at_every_chunk_ends_with_the_same_bytes_and_computes_each_once(
    name, how, computed, monkeypatch, caplog
):
    outs, count = STAGES[name]
    before = _digests(outs)
    fail_at = 0

    def before_chunk(chunk: int) -> None:
        if chunk == fail_at:
            if how == "fails":
                raise RuntimeError("killed")
            os.kill(os.getpid(), signal.SIGTERM)

    _watch(monkeypatch, computed, before_chunk)
    for chunk in range(1, count):
        fail_at = chunk
        with pytest.raises((RuntimeError, InterruptedRunError)):
            run_stage(name)
        assert len(computed) == (chunk if how == "fails" else chunk + 1)
        if how != "fails":
            break
    fail_at = -1
    with caplog.at_level(logging.INFO):
        run_stage(name)
    assert sorted(computed) == list(range(count))
    assert [message for message in caplog.messages if "resumed" in message] == [
        f"resumed {name} with {count - 1 if how == 'fails' else 2} chunks"
    ]
    assert _digests(outs) == before
    assert not list(Path(".state", name).iterdir())


def _killed_at_its_figures(monkeypatch) -> None:
    """Run ``sample`` up to its first figure."""

    def fail(*_, **__):
        pytest.fail("killed")

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", fail)
        with pytest.raises(pytest.fail.Exception, match="killed"):
            run_stage("sample")


def test_a_stage_killed_at_its_figures_draws_only_them_when_it_continues(computed, monkeypatch):
    outs, _ = STAGES["sample"]
    before = _digests(outs)
    _killed_at_its_figures(monkeypatch)
    _watch(monkeypatch, computed)
    run_stage("sample")
    assert computed == []
    assert json.loads(Path("metrics/timing.json").read_text())["sample"]["images_per_second"] == 0  # drawn in this run
    assert _digests(outs) == before


def test_a_run_with_other_settings_starts_over(computed, monkeypatch, write_params, folder):
    _killed_at_its_figures(monkeypatch)
    _watch(monkeypatch, computed)
    write_params(folder, {**SETTINGS, "sample.steps": 3})
    run_stage("sample")
    assert len(computed) == 4
    write_params(folder, SETTINGS)
    run_stage("sample")  # with the chunks of the first run
    assert len(computed) == 4
