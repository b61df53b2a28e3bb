"""A training that is stopped, killed or made longer ends with the bytes of one that never was."""

import errno
import logging
import os
import signal
from dataclasses import replace

import pytest

from latentline.core.interrupt import InterruptedRunError
from latentline.runtime.resume import ResumeFile
from support.training_run import (
    EPOCHS,
    OPTIMIZER,
    STEPS,
    Run,
    asked_to_stop,
    assert_same,
    killed,
    reference,
    save_after_each_step,
)


@pytest.fixture(params=[(), (0.99,), (0.5, 0.99)], ids=["plain", "averaged", "averaged over two lengths"])
def decays(request) -> tuple[float, ...]:
    """Return the decays of the averaged weights."""
    return request.param


@pytest.mark.parametrize(
    "at", [0, 5, STEPS - 1, EPOCHS * STEPS - 1], ids=["first step", "mid-epoch", "end of an epoch", "last step"]
)
def test_a_run_that_was_asked_to_stop_and_continued_ends_with_the_bytes_of_one_never_stopped(workplace, decays, at):
    uninterrupted = reference(Run(decays).fit)
    with pytest.raises(InterruptedRunError):
        Run(decays, at_step=asked_to_stop(at)).fit()
    second = Run(decays)
    assert_same(second.fit(), uninterrupted)
    assert second.steps_done == list(range(at + 1, EPOCHS * STEPS))


def test_a_killed_run_continues_from_its_last_save_and_ends_with_the_same_bytes(workplace, decays, monkeypatch):
    uninterrupted = reference(Run(decays).fit)
    save_after_each_step(monkeypatch)
    with pytest.raises(RuntimeError, match="killed"):
        Run(decays, at_step=killed(6)).fit()
    second = Run(decays)
    assert_same(second.fit(), uninterrupted)
    assert second.steps_done == list(range(6, EPOCHS * STEPS))


def test_a_run_stopped_at_every_step_ends_with_the_same_bytes(workplace):
    uninterrupted = reference(Run((0.9,)).fit)
    for step in range(EPOCHS * STEPS):
        with pytest.raises(InterruptedRunError):
            Run((0.9,), at_step=asked_to_stop(step, signal.SIGINT)).fit()
    assert_same(Run((0.9,)).fit(), uninterrupted)


SCHEDULES = {
    "warmup_stable_decay": (OPTIMIZER, {2: 5, 3: 7, 5: 12}),  # epochs -> steps before the fall
    "milestones": (replace(OPTIMIZER, schedule="milestones", milestones=[1, 4], gamma=0.5), {2: 8, 3: 12, 5: 20}),
    "cosine": (replace(OPTIMIZER, schedule="cosine"), {2: 0, 3: 0, 5: 0}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_longer_run_costs_the_difference_and_gives_the_bytes_of_one_from_scratch(
    workplace, decays, name, tmp_path, monkeypatch
):
    """The states of a run stay even where one of them exceeds the room for all, as those of big networks do."""
    optimizer, shared = SCHEDULES[name]
    scratch = {}
    for epochs in (3, 5):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / str(epochs)))  # where states are kept: an empty folder
        scratch[epochs] = Run(decays, epochs=epochs, optimizer=optimizer, extendable=True).fit()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "one after the other"))
    from_step = 0
    for epochs in (2, 3, 5, 3):
        run = Run(decays, epochs=epochs, optimizer=optimizer, extendable=True, keep_bytes=0)
        result = run.fit()
        assert run.steps_done == list(range(from_step, epochs * STEPS))
        if epochs in scratch:
            assert_same(result, scratch[epochs])
        # A run of 3 epochs does not pass through the state that the run of 5 keeps.
        from_step = 0 if epochs == 5 else shared[epochs]


def test_a_run_that_counts_its_epochs_never_continues_another(workplace):
    Run(epochs=2).fit()
    assert [path.name for path in workplace.glob(".state/*/*/*.safetensors")] == ["ended.safetensors"]
    longer = Run(epochs=3)
    longer.fit()
    assert longer.steps_done[0] == 0


def test_a_run_that_never_saved_leaves_its_ended_state_and_the_same_run_again_trains_no_step(workplace, decays):
    first = Run(decays).fit()
    assert [path.name for path in workplace.glob(".state/*/*/*.safetensors")] == ["ended.safetensors"]
    again = Run(decays)
    assert_same(again.fit(), first)
    assert again.steps_done == again.epochs_reported == []


def test_a_longer_run_that_was_killed_continues_from_where_it_was(workplace, decays):
    uninterrupted = reference(Run(decays, epochs=5).fit)
    Run(decays, epochs=3, extendable=True).fit()
    with pytest.raises(InterruptedRunError):
        Run(decays, epochs=5, extendable=True, at_step=asked_to_stop(17)).fit()
    last = Run(decays, epochs=5, extendable=True)
    assert_same(last.fit(), uninterrupted)
    assert last.steps_done == [18, 19]


def test_a_full_disk_ends_the_training_soon_and_with_room_it_continues_to_the_same_bytes(workplace, monkeypatch):
    uninterrupted = reference(Run().fit)
    save, saves = ResumeFile.save, []

    def save_once(*arguments) -> None:
        if saves:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saves.append(save(*arguments))

    with monkeypatch.context() as patch:
        save_after_each_step(patch)
        patch.setattr(ResumeFile, "save", save_once)
        full = Run()
        with pytest.raises(OSError, match="No space left"):
            full.fit()
    assert full.steps_done == [0, 1, 2]
    second = Run()
    assert_same(second.fit(), uninterrupted)
    assert second.steps_done == list(range(1, EPOCHS * STEPS))


def test_saving_often_changes_nothing(workplace, monkeypatch):
    seldom = reference(Run((0.9,)).fit)
    save_after_each_step(monkeypatch)
    often = Run((0.9,))
    often_result = often.fit()
    assert often.steps_done == list(range(EPOCHS * STEPS))
    assert_same(often_result, seldom)


def test_a_run_that_continues_logs_its_step(workplace, caplog):
    with pytest.raises(InterruptedRunError):
        Run(at_step=asked_to_stop(5)).fit()
    with caplog.at_level(logging.INFO):
        Run().fit()
    assert any(message.startswith("resumed ") and message.endswith("at step 6") for message in caplog.messages)


def test_a_damaged_state_starts_over_and_ends_with_the_same_bytes(workplace, caplog):
    uninterrupted = reference(Run().fit)
    with pytest.raises(InterruptedRunError):
        Run(at_step=asked_to_stop(5)).fit()
    (state,) = workplace.glob(".state/*/*/state.safetensors")
    state.write_bytes(state.read_bytes()[:-5])
    second = Run()
    assert_same(second.fit(), uninterrupted)
    assert second.steps_done[0] == 0
    assert any("left aside" in message for message in caplog.messages)
