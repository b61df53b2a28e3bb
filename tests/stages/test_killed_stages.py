"""Caching, sampling and judging, killed at each of their chunks and continued: the same bytes, and nothing is made twice."""

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentline.core.files import sha256_file
from latentline.core.interrupt import InterruptedRunError
from latentline.feature_extractors.load import FeatureExtractor
from latentline.runtime.resumable_map import ResumableMap
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.evaluate import __main__ as evaluate
from stages.evaluate import features as seen
from stages.manipulate import __main__ as manipulate
from stages.sample import __main__ as sample
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_feature_extractor import __main__ as train_feature_extractor
from stages.train_latent_classifiers import __main__ as train_latent_classifiers

pytestmark = pytest.mark.usefixtures("machine")

KNOBS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.epochs": 1,
    "autoencoder.latent_channels": 2,
    "autoencoder.encoder_channels": [8],
    "autoencoder.encoder_blocks": [1],
    "autoencoder.decoder_channels": [8],
    "autoencoder.decoder_blocks": [1],
    "latents.posterior": "sample",
    "denoiser.epochs": 1,
    "denoiser.channels": [8],
    "denoiser.attention_levels": [],
    "denoiser.preview.every_epochs": 0,
    "sample.sampler": "flow_sde",
    "sample.steps": 2,
    "sample.count": 38,
    "sample.batch_size": 10,
    "feature_extractor.epochs": 1,
    "feature_extractor.channels": 8,
    "feature_extractor.features": 8,
    "evaluate.neighbours": 3,
    "evaluate.pair_count": 30,
    "manipulate.strengths": [0.0, 2.0],
    "manipulate.target_names": ["3", "7"],
    "manipulate.count": 2,
    "manipulate.strips": 1,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
    "compute.save_every_seconds": 1e-9,
}
# The stage, what it writes, and what makes one of its chunks. Chunks of 25 images of 60, 60 and 60; of 10 of 38 samples; of
# 25 of 60, 38, 60, 60 and 38; of each of 2 strengths, learnt and random, and 2 targets.
STAGES = {
    "encode_and_cache_latents": (encode_and_cache_latents.main, ("encoded_img", "fig/latents"), 9),
    "sample": (sample.main, ("data/generated", "fig/sample", "metrics/sample.json"), 4),
    "evaluate": (evaluate.main, ("fig/evaluate", "metrics/evaluate.json"), 13),
    "manipulate": (manipulate.main, ("fig/manipulate", "metrics/manipulate.json"), 8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """A folder in which every stage has run."""
    folder = tmp_path_factory.mktemp("run")
    write_params(folder, KNOBS)
    (folder / "data" / "edit").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        _cut(patch)
        for stage in (
            download,
            train_feature_extractor,
            train_autoencoder,
            encode_and_cache_latents,
            train_denoiser,
            sample,
            evaluate,
            train_latent_classifiers,
            manipulate,
        ):
            stage.main()
    return folder


@pytest.fixture
def made(folder: Path, monkeypatch) -> list[int]:
    """The work that stages in the folder do, chunk by chunk; it can be made to fail."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    _cut(monkeypatch)
    return []


def _cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(encode_and_cache_latents, "inference_batch", lambda shape: 25)
    patch.setattr(seen, "_BATCH", 25)


def _watch(monkeypatch, name: str, made: list[int], happens: Callable[[int], None]) -> None:
    """Count the chunks that stage ``name`` makes; ``happens`` before each."""

    def watched(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*arguments, **options):
            if "callback" not in options:  # the trajectory's
                happens(len(made))
                made.append(len(made))
            return make(*arguments, **options)

        return call

    owner, work = {
        "encode_and_cache_latents": (encode_and_cache_latents, "to_unit_range"),
        "sample": (sample, "draw_latents"),
        "evaluate": (FeatureExtractor, "look"),
        "manipulate": (ResumableMap, "_compute"),  # its figures are edits too
    }[name]
    monkeypatch.setattr(owner, work, watched(getattr(owner, work)))


def _digests(places: tuple[str, ...]) -> dict[str, str]:
    paths = [path for place in map(Path, places) for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {str(path): sha256_file(path) for path in paths}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("how", ["fails", "is told to stop"])
def test_a_stage_killed_at_every_piece_ends_with_the_same_bytes_and_makes_each_once(
    name, how, made, monkeypatch, caplog
):
    main, outs, count = STAGES[name]
    before = _digests(outs)
    fail_at = 0

    def happens(chunk: int) -> None:
        if chunk == fail_at:
            if how == "fails":
                raise RuntimeError("killed")
            os.kill(os.getpid(), signal.SIGTERM)

    _watch(monkeypatch, name, made, happens)
    for chunk in range(1, count):
        fail_at = chunk
        with pytest.raises((RuntimeError, InterruptedRunError)):
            main()
        assert len(made) == (chunk if how == "fails" else chunk + 1)
        if how != "fails":
            break
    fail_at = -1
    with caplog.at_level(logging.INFO):
        main()
    assert len(made) == count
    assert [message for message in caplog.messages if "resumed" in message] == [
        f"resumed {name} with {count - 1 if how == 'fails' else 2} chunks"
    ]
    assert _digests(outs) == before
    assert not list(Path(".state", name).iterdir())


def test_a_stage_killed_while_it_draws_its_figures_has_only_those_left_to_do(made, monkeypatch):
    before = _digests(STAGES["sample"][1])
    with monkeypatch.context() as patch:
        patch.setattr(sample, "save_grid", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            sample.main()
    _watch(monkeypatch, "sample", made, lambda chunk: None)
    sample.main()
    assert made == []
    assert json.loads(Path("metrics/timing.json").read_text())["sample"]["images_per_second"] == 0  # drawn in this run
    assert _digests(STAGES["sample"][1]) == before


def test_other_knobs_do_not_continue(made, monkeypatch, write_params, folder):
    with monkeypatch.context() as patch:
        patch.setattr(sample, "save_grid", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            sample.main()
    _watch(monkeypatch, "sample", made, lambda chunk: None)
    write_params(folder, {**KNOBS, "sample.steps": 3})
    sample.main()
    assert len(made) == 4
    write_params(folder, KNOBS)
    sample.main()  # with what the first run left
    assert len(made) == 4
