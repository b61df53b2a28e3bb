"""Saved states: what was saved last is loaded, a damaged state never, and ended states take a limited room."""

import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch

from latentline.core.errors import UserError
from latentline.runtime.resume import ResumeFile

IDENTITY = {"settings": {"lr": 1e-3, "widths": [8, 16]}, "inputs": {"data": "ab" * 32}}


def test_what_was_saved_last_is_what_is_loaded(workplace):
    file = ResumeFile("train_x", IDENTITY, ())
    for step in (1, 2):
        file.save({"w": torch.full((3,), float(step))}, {"step": step})
    tensors, meta = ResumeFile("train_x", IDENTITY, ()).load()
    assert meta == {"step": 2}
    assert tensors["w"].tolist() == [2, 2, 2]


def test_nothing_saved_is_nothing_to_continue(workplace):
    assert ResumeFile("train_x", IDENTITY, ()).load() is None


@pytest.fixture
def saved(workplace):
    """Return a saved state's file object and its path."""
    file = ResumeFile("train_x", IDENTITY, ())
    file.save({"w": torch.arange(5.0), "step": torch.tensor(3.0)}, {"step": 1, "history": [{"loss": 0.25}]})
    return file, file.folder / "state.safetensors"


def test_a_state_cut_short_is_not_continued_and_a_warning_is_logged(saved, caplog):
    file, state = saved
    content = state.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1]:
        caplog.clear()
        state.write_bytes(content[:length])
        assert file.load() is None
        assert f"left aside: {state} is damaged" in caplog.text


def test_a_state_with_a_flipped_bit_is_not_continued_and_a_warning_is_logged(saved, caplog):
    file, state = saved
    content = state.read_bytes()
    for position in range(len(content)):
        caplog.clear()
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        state.write_bytes(damaged)
        assert file.load() is None
        assert "left aside" in caplog.text
    state.write_bytes(content)
    assert file.load()[1]["step"] == 1


def test_the_state_of_another_run_is_nothing_to_continue(saved, caplog):
    _, state = saved
    other = ResumeFile("train_x", {**IDENTITY, "settings": {}}, ())
    other.folder.mkdir(parents=True)
    shutil.copy(state, other.folder)
    assert other.load() is None
    assert "is the state of another run" in caplog.text


def test_two_processes_never_train_from_one_state(saved):
    file, state = saved
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(state.parent / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"lock is locked: train_x .* runs already; .*wait for it, or stop it"):
            file.load()
        other.kill()  # however it ends, the lock is free again
    assert file.load() is not None


def test_a_run_that_never_saved_leaves_nothing(workplace):
    file = ResumeFile("train_x", IDENTITY, ())
    assert file.load() is None
    (file.folder / "preview.png").write_bytes(b"")
    file.finish()
    assert not file.folder.exists()
    file.finish()  # twice does no harm


def test_a_run_that_is_killed_after_its_end_but_before_dvc_has_recorded_it_continues(workplace):
    file = ResumeFile("train_x", IDENTITY, ())
    file.save({}, {"step": 5})
    (file.folder / "preview.png").write_bytes(b"")
    for _ in range(2):  # twice does no harm
        file.finish()
        assert [path.name for path in workplace.rglob("*.safetensors")] == ["ended.safetensors"]
        assert (file.folder / "preview.png").exists()
        assert ResumeFile("train_x", IDENTITY, ()).load()[1] == {"step": 5}
    file.save({}, {"step": 4})  # of the run that goes on
    assert file.load()[1] == {"step": 4}


def test_what_is_kept_outlives_the_run_and_serves_where_its_state_does_not(workplace):
    file = ResumeFile("train_x", IDENTITY, ())
    file.save_extension_point({}, {"step": 3})
    file.save({}, {"step": 5})
    assert file.load()[1] == {"step": 5}
    assert file.load(lambda meta: meta["step"] < 4)[1] == {"step": 3}
    assert file.load(lambda meta: meta["step"] < 3) is None
    file.finish()
    assert file.load()[1] == {"step": 5}
    assert file.load(lambda meta: meta["step"] < 4)[1] == {"step": 3}


def _filled(file: ResumeFile, age: int, *, ended: bool) -> None:
    """Write a state of 4 kB, last used ``age`` seconds before another."""
    if ended:
        file.save({"weight": torch.zeros(1000)}, {})
        file.finish()
    else:
        file.save_extension_point({"weight": torch.zeros(1000)}, {})
    for path in file.folder.glob("*.safetensors"):
        os.utime(path, (1e9 - age, 1e9 - age))


def _names(files: list[ResumeFile]) -> list[set[str]]:
    return [{path.name for path in file.folder.glob("*.safetensors")} for file in files]


def test_of_the_states_of_ended_runs_that_take_too_much_room_the_oldest_go(workplace, caplog):
    files = [ResumeFile("train_x", {**IDENTITY, "seed": seed}, (), keep_bytes=10_000) for seed in range(4)]
    for age, file in enumerate(reversed(files)):  # there is room for two
        _filled(file, age, ended=age == 0)
    files[0].save({"weight": torch.zeros(1000)}, {})  # of a run that goes on
    with caplog.at_level(logging.INFO):
        files[2].finish()
    assert _names(files) == [{"state.safetensors"}, set(), {"kept.safetensors"}, {"ended.safetensors"}]
    assert len(caplog.messages) == 2
    assert all("(0.00 GiB); compute.keep_states_gib leaves no room for it" in line for line in caplog.messages)
    assert {line.split()[1] for line in caplog.messages} == {
        str(file.folder / "kept.safetensors") for file in files[:2]
    }


def test_the_newest_states_of_each_part_stay_however_large_and_a_run_that_used_them_makes_them_newest(workplace):
    files = [ResumeFile("train_x", {"seed": seed}, (), part, 0) for part in "ab" for seed in range(2)]
    for age, file in enumerate(files):
        _filled(file, age, ended=False)
        _filled(file, age, ended=True)  # which leaves the newest of part a
    both = {"ended.safetensors", "kept.safetensors"}
    assert _names(files) == [set(), both, set(), both]
    _filled(files[2], 5, ended=False)
    files[2].finish()  # what it has was used last
    assert _names(files) == [set(), both, {"kept.safetensors"}, {"ended.safetensors"}]


def test_the_last_state_of_a_long_training_is_written_at_once_and_of_a_short_one_when_it_finishes(workplace):
    file = ResumeFile("train_x", IDENTITY, ())
    file.save_at_finish({}, {"step": 5})
    assert file.load() is None
    file.finish()
    assert file.load()[1] == {"step": 5}
    file.save({}, {"step": 6})
    file.save_at_finish({}, {"step": 7})
    assert file.load()[1] == {"step": 7}
    file.finish()
    assert ResumeFile("train_x", IDENTITY, ()).read(file.folder / "ended.safetensors")[1] == {"step": 7}


def test_the_state_lies_in_the_main_checkout_even_when_dvc_runs_a_copy(workplace, monkeypatch):
    main, copy = workplace / "main", workplace / "copy"
    copy.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.chdir(copy)
    ResumeFile("train_x", IDENTITY, ()).save({}, {"step": 3})
    assert list(main.glob(".state/train_x/*/state.safetensors"))
    assert list(copy.iterdir()) == []
