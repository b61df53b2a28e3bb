"""Stages ``train_denoiser`` and ``sample`` with a flow map, on the pixels of a few digits."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError
from latentline.core.paths import DENOISER
from latentline.core.seeds import start_noise
from latentline.denoisers.load import load_denoiser
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.time_grid import time_grid
from latentline.latents.cache import read_latents, read_stats
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.parallel import Ranks
from latentline.runtime.resume import ResumeFile
from stages.download import __main__ as download
from stages.encode_and_cache_latents import __main__ as encode_and_cache_latents
from stages.sample import __main__ as sample
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_denoiser import __main__ as train_denoiser
from stages.train_denoiser import train, trajectories
from stages.train_denoiser.latents import read_split
from support.several import several
from support.training_run import save_after_each_step

pytestmark = pytest.mark.usefixtures("machine")

PARAMS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.name": "identity",
    "denoiser.epochs": 1,
    "denoiser.channels": [16],
    "denoiser.attention_levels": [0],
    "denoiser.patch_size": 2,
    "denoiser.preview.every_epochs": 0,
    "denoiser.optimizer.batch_size": 20,
    "denoiser.optimizer.warmup_steps": 2,
    "sample.count": 20,
    "sample.steps": 1,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
}
TRAJECTORIES = 90
FLOW_MAP = {
    "denoiser.objective": "flow_map",
    "denoiser.init_from": "flow",
    "denoiser.flow_map.trajectories": TRAJECTORIES,
}
Run = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_params) -> Path:
    """Return a folder with encoded digits, and in ``flow`` a denoiser of velocities."""
    folder = tmp_path_factory.mktemp("flow_map")
    write_params(folder, {**PARAMS, "denoiser.epochs": 60, "denoiser.optimizer.lr": 1e-2})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (download, train_autoencoder, encode_and_cache_latents, train_denoiser):
            stage.main()
        shutil.copytree("checkpoints/denoiser", "flow")
    return folder


@pytest.fixture
def run(folder: Path, write_params, monkeypatch, tmp_path) -> Run:
    """Train with changed settings; return the weights in the checkpoint."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def train_with(**changes: object) -> dict[str, Tensor]:
        write_params(folder, {**PARAMS, **FLOW_MAP, **changes})
        train_denoiser.main()
        return load_checkpoint(DENOISER, kind="denoiser", made_by="").tensors

    return train_with


def test_it_begins_as_the_teacher_and_one_step_draws_a_sample(run, folder, write_params):
    tensors = run()
    started = load_checkpoint(Path("flow/denoiser.safetensors"), kind="denoiser", made_by="").tensors
    assert {name for name in tensors if name not in started} == {
        f"network.embedding.interval.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
    guides = [name for name in started if name.startswith("guide.")]
    assert guides
    assert all(torch.equal(tensors[name], started[name]) for name in guides)
    write_params(folder, {**PARAMS, **FLOW_MAP, "sample.sampler": "flow_map"})
    sample.main()
    assert json.loads(Path("metrics/sample.json").read_text()) == {"count": 20, "network_evaluations": 1}
    write_params(folder, {**PARAMS, **FLOW_MAP, "sample.sampler": "flow_map", "sample.guidance_start": 0.3})
    with pytest.raises(UserError, match=r"sample.guidance_start \(0.3\) must be 0.15"):
        sample.main()


@pytest.fixture
def drawn(run, monkeypatch) -> list[Tensor]:
    """Return a list that receives the trajectories of each training."""
    kept: list[Tensor] = []

    def draw(*args: Any) -> Tensor:
        kept.append(trajectories.draw_trajectories(*args))
        return kept[-1]

    monkeypatch.setattr(train, "draw_trajectories", draw)
    return kept


def test_training_brings_one_evaluation_near_the_end_of_the_trajectories(run, drawn):
    def error() -> Tensor:
        denoiser = load_denoiser(torch.device("cpu"), read_stats())
        states, ones = drawn[-1].float(), torch.ones(len(drawn[-1]))
        latents = read_split("train", read_stats(), denoiser.conditioning, denoiser.device)
        condition = latents.condition(torch.arange(TRAJECTORIES) % len(latents))
        with torch.no_grad():
            average = denoiser.network(states[:, 0], ones, condition, 0 * ones)
        return (states[:, 0] - average - states[:, 2]).square().mean()

    run(**{"denoiser.optimizer.lr": 1e-12})
    before = error()
    run(**{"denoiser.epochs": 60, "denoiser.optimizer.lr": 1e-2})
    assert error() < 0.6 * before


def test_trajectories_do_not_depend_on_batches_and_there_are_as_many_as_asked_for(run, drawn, monkeypatch):
    run()
    monkeypatch.setattr(trajectories, "rows_without_gradients", lambda shape: 7)
    run(**{"denoiser.flow_map.trajectories": 10})
    assert drawn[0].shape == (TRAJECTORIES, 4, 1, 8, 8)
    assert len(read_latents("train").labels) < TRAJECTORIES
    assert drawn[0].dtype == torch.float16
    assert len(drawn[1]) == 10
    torch.testing.assert_close(drawn[1], drawn[0][:10], atol=2e-3, rtol=2e-3)
    noise = start_noise(0, "train_denoiser/trajectories", torch.arange(10), (1, 8, 8))
    torch.testing.assert_close(drawn[1][:, 0], noise.half())


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_draw_the_same_trajectories_each_its_share_and_all_get_all(run, monkeypatch, count):
    """Three batches: of four processes one has none."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(trajectories, "rows_without_gradients", lambda shape: 40)
    monkeypatch.setattr(train, "draw_trajectories", lambda *args: given.append(args) or drawn_alone(*args))
    drawn_alone = trajectories.draw_trajectories
    run()
    teacher, params, latents, seed, saving, _, precision = given[0]
    whole = drawn_alone(*given[0])

    def work(ranks: Ranks) -> tuple[Tensor, int]:
        file = ResumeFile("several", {"rank": ranks.number}, ())  # as on machines that share no folder
        own = replace(saving, file=file, every_seconds=0.0)
        found = drawn_alone(teacher, params, latents, seed, own, ranks, precision)
        return found, len(list(file.folder.glob("chunks-*")))

    results = several(count, work)
    assert all(torch.equal(found, whole) for found, _ in results)
    assert sorted(files for _, files in results) == ([1, 2] if count == 2 else [0, 1, 1, 1])


def test_the_middle_state_is_that_after_half_of_the_steps_though_no_time_is_exactly_one_half(run, drawn):
    assert 0.5 not in time_grid(98).tolist()
    for steps in (98, 100):
        run(**{"denoiser.flow_map.trajectories": 3, "denoiser.flow_map.steps": steps})
    torch.testing.assert_close(drawn[0], drawn[1], atol=0.1, rtol=0)  # guided from another time, too


@pytest.mark.parametrize("start", [0.0, 0.15])
def test_the_first_evaluation_of_a_trajectory_is_made_once_and_gives_the_data_that_the_teacher_predicts(
    run, drawn, monkeypatch, start
):
    conditioned, times, expected = trajectories.conditioned_model, list[float](), list[Tensor]()

    def counted(*args: Any) -> DenoiserModel:
        model = conditioned(*args)
        output_at = model.output_at or (lambda _: model.output)

        def counted_at(time: float) -> Callable[[Tensor, Tensor], Tensor]:
            def output(z_t: Tensor, t: Tensor) -> Tensor:
                times.append(time)
                if time == 1:
                    expected.append(model.predict_at(z_t, 1.0).z0)
                return output_at(time)(z_t, t)

            return output

        return replace(model, output_at=counted_at)

    monkeypatch.setattr(trajectories, "conditioned_model", counted)
    run(**{"denoiser.flow_map.trajectories": 10, "denoiser.flow_map.guidance_start": start})
    assert times == time_grid(12).tolist()[:-1]
    assert torch.equal(drawn[0][:, -1], expected[0].half())


@pytest.mark.slow
def test_micro_batches_and_checkpointed_activations_give_the_same_weights(run):
    whole = run()
    for changes in ({"denoiser.optimizer.accumulate": 3}, {"compute.gradient_checkpointing": True}):
        again = run(**changes)
        for name, tensor in whole.items():
            torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.slow
def test_a_training_killed_at_a_step_ends_with_the_same_bytes(run, monkeypatch, tmp_path, caplog):
    whole, loss = run(), train.flow_map_loss
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    calls: list[Any] = []

    def killed(*args: Any) -> Tensor:
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedRunError
        return loss(*args)

    monkeypatch.setattr(train, "flow_map_loss", killed)
    save_after_each_step(monkeypatch)
    with pytest.raises(InterruptedRunError):
        run()
    with caplog.at_level(logging.INFO):
        again = run()
    assert "resumed train_denoiser at step 1" in caplog.text
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_training_stopped_while_it_draws_trajectories_draws_the_others_and_ends_with_the_same_bytes(
    run, monkeypatch, tmp_path, caplog
):
    """Three batches: the signal comes in the second, and a step of the next run fails."""
    monkeypatch.setattr(trajectories, "rows_without_gradients", lambda shape: 40)
    sampler, loss, batches = trajectories.unipc, train.flow_map_loss, list[int]()

    def signalled(model: DenoiserModel, noise: Tensor, *args: Any) -> Tensor:
        batches.append(len(noise))
        if batches == [40, 40]:
            os.kill(os.getpid(), signal.SIGTERM)
        return sampler(model, noise, *args)

    def failing(*args: Any) -> Tensor:
        raise RuntimeError("killed")

    whole = run()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    monkeypatch.setattr(trajectories, "unipc", signalled)
    with pytest.raises(InterruptedRunError):
        run()
    assert batches == [40, 40]
    # So that the last batch is saved at once, too. The setting is not part of the key.
    monkeypatch.setattr(train, "flow_map_loss", failing)
    with pytest.raises(RuntimeError, match="killed"):
        run(**{"compute.save_every_seconds": 1e-6})
    assert batches == [40, 40, TRAJECTORIES - 80]
    monkeypatch.setattr(train, "flow_map_loss", loss)
    with caplog.at_level(logging.INFO):
        again = run()
    assert batches == [40, 40, TRAJECTORIES - 80]
    assert "resumed train_denoiser with 3 chunks" in caplog.text
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    assert list(tmp_path.rglob("ended.safetensors"))
    assert not list(tmp_path.rglob("chunks-*"))


@pytest.mark.parametrize("objective", ["flow_matching", "flow_map"])
def test_a_flow_map_starts_no_training(run, folder, objective):
    run()
    shutil.copytree("checkpoints/denoiser", "distilled", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"denoiser.init_from \(distilled\) must hold a denoiser of objective flow_mat"):
        run(**{"denoiser.objective": objective, "denoiser.init_from": "distilled"})
