import hashlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from latentline.core.errors import UserError
from latentline.runtime import resume
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


def test_other_settings_inputs_or_stages_never_continue_from_each_other(workplace):
    others = [
        ("train_x", {**IDENTITY, "settings": {"lr": 2e-3, "widths": [8, 16]}}),
        ("train_x", {**IDENTITY, "settings": {"lr": 1e-3, "widths": [16, 8]}}),
        ("train_x", {**IDENTITY, "inputs": {"data": "cd" * 32}}),
        ("train_y", IDENTITY),
    ]
    folders = {ResumeFile(stage, identity, ()).folder for stage, identity in [("train_x", IDENTITY), *others]}
    assert len(folders) == 5


def test_the_order_of_settings_does_not_matter(workplace):
    assert (
        ResumeFile("train_x", dict(reversed(IDENTITY.items())), ()).folder == ResumeFile("train_x", IDENTITY, ()).folder
    )


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Iterator[Path]:
    """A repository whose module ``stages.made_up.train`` imports ``stages.made_up.loss``, and not ``stages.made_up.report``."""
    folder = tmp_path / "stages" / "made_up"
    folder.mkdir(parents=True)
    for name in ("loss", "report", "other", "another", "a_fifth"):
        (folder / f"{name}.py").write_text(f"{name} = 1\n")
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "train.py").write_text("def train():\n    from stages.made_up import loss\n")
    (folder / "__main__.py").write_text("from stages.made_up import report\nfrom stages.made_up.train import train\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "stages"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "stages"]:
        del sys.modules[name]


def _file(settings: dict[str, object] | None = None, part: str = "") -> ResumeFile:
    identity = IDENTITY if settings is None else {**IDENTITY, "settings": settings}
    return ResumeFile("train_x", identity, ["stages.made_up.train"], part)


@pytest.mark.parametrize("name", ["report", "__main__", "other"])
def test_code_outside_of_the_import_closure_has_no_part_in_the_key(repository, name):
    before = _file().folder
    (repository / f"{name}.py").write_text("changed = 2\n")
    assert _file().folder == before


@pytest.mark.parametrize("name", ["train", "loss", "__init__"])
def test_code_inside_of_the_import_closure_is_part_of_the_key(repository, name):
    folders = {_file().folder}
    for text in ("one = 1\n", "one = 2\n"):
        (repository / f"{name}.py").write_text(text)
        folders.add(_file().folder)
    assert len(folders) == 3


def test_the_key_is_the_same_wherever_the_repository_lies(repository, tmp_path, monkeypatch):
    before = _file().folder.name
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "stages").rename(moved / "stages")
    for name in [name for name in sys.modules if name.split(".")[0] == "stages"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(moved)
    importlib.invalidate_caches()
    assert _file().folder.name == before


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"latentline\.made_up must be a module"):
        ResumeFile("train_x", IDENTITY, ["latentline.made_up"])


def test_of_this_package_the_closure_of_the_module_counts():
    """Found from the module's own file, in the layout src/latentline."""
    code = resume._code_digests(["latentline.runtime.lock"])
    assert code.keys() >= {
        "src/latentline/runtime/lock.py",
        "src/latentline/runtime/__init__.py",
        "src/latentline/__init__.py",
    }
    assert not any(path.startswith(("src/latentline/figures", "stages")) for path in code)


def _log_of_loading(file: ResumeFile, caplog) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert file.load() is None
    return caplog.messages


def test_the_log_says_which_code_changed_since_the_newest_state(repository, caplog):
    old = _file()
    old.save({}, {"step": 1})
    (repository / "loss.py").write_text("loss = 2\n")
    expected = f"state of train_x ({old.folder.name}) not used: stages/made_up/loss.py changed since"
    assert _log_of_loading(_file(), caplog) == [expected]


def test_the_log_names_three_changes_and_counts_the_others(repository, caplog):
    (repository / "train.py").write_text("from stages.made_up import a_fifth, another, loss, other\n")
    old = _file()
    old.save({}, {"step": 1})
    for name in ("loss", "other", "another", "a_fifth"):
        (repository / f"{name}.py").write_text(f"{name} = 2\n")
    (message,) = _log_of_loading(_file({"lr": 2e-3, "widths": [8, 16]}), caplog)
    assert message.endswith(
        "not used: settings.lr, stages/made_up/a_fifth.py, stages/made_up/another.py and 2 more changed since"
    )


def test_the_log_says_which_setting_or_input_changed(repository, caplog):
    _file().save({}, {"step": 1})
    (message,) = _log_of_loading(_file({"lr": 1e-3, "heads": 2}), caplog)
    assert message.endswith("not used: settings.heads, settings.widths changed since")
    other = ResumeFile("train_x", {**IDENTITY, "inputs": {"data": "cd" * 32}}, ["stages.made_up.train"])
    (message,) = _log_of_loading(other, caplog)
    assert message.endswith("not used: inputs.data changed since")


def test_equal_settings_in_tuples_are_no_change_and_empty_ones_are_one(repository, caplog):
    _file({"betas": (0.5, 0.9), "heads": {}}).save({}, {"step": 1})
    (message,) = _log_of_loading(_file({"betas": (0.5, 0.9), "heads": {"first": {}}}), caplog)
    assert message.endswith("not used: settings.heads, settings.heads.first changed since")


def test_the_newest_state_of_the_same_part_is_the_one_compared(repository, caplog):
    for age, (settings, part) in enumerate([({"lr": 1}, ""), ({"heads": 1}, ""), ({"width": 1}, "another part")]):
        file = _file(settings, part)
        file.save({}, {"step": 1})
        os.utime(file.folder / "state.safetensors", (1e9 + age, 1e9 + age))
    (message,) = _log_of_loading(_file({"depth": 1}), caplog)
    assert message.endswith("not used: settings.depth, settings.heads changed since")


def test_where_no_other_state_can_be_compared_the_log_says_nothing(repository, caplog):
    assert _log_of_loading(_file(), caplog) == []
    for content in ("", "[]", "{}", '{"part": "", "code": [], "identity": {}}'):
        file = _file({"content": content})
        file.save({}, {"step": 1})
        (file.folder / "key.json").write_text(content)
    assert _log_of_loading(_file(), caplog) == []


def test_a_state_says_what_its_key_is_made_of(repository):
    file = _file(part="first")
    file.save({}, {"step": 1})
    key = json.loads((file.folder / "key.json").read_text())
    assert key["identity"] == IDENTITY
    assert key["part"] == "first"
    assert key["code"]["stages/made_up/loss.py"] == hashlib.sha256((repository / "loss.py").read_bytes()).hexdigest()
    assert key["code"].keys() == {
        f"stages/{name}.py" for name in ("__init__", "made_up/__init__", "made_up/train", "made_up/loss")
    }


@pytest.fixture
def saved(workplace):
    """A state, and where it lies."""
    file = ResumeFile("train_x", IDENTITY, ())
    file.save({"w": torch.arange(5.0), "step": torch.tensor(3.0)}, {"step": 1, "history": [{"loss": 0.25}]})
    return file, file.folder / "state.safetensors"


def test_a_state_cut_short_is_nothing_to_continue_and_a_warning_says_so(saved, caplog):
    file, state = saved
    content = state.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1]:
        caplog.clear()
        state.write_bytes(content[:length])
        assert file.load() is None
        assert f"left aside: {state} is damaged" in caplog.text


def test_a_state_with_a_flipped_bit_is_nothing_to_continue_and_a_warning_says_so(saved, caplog):
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
    program = "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
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


def test_of_the_states_of_ended_runs_that_take_too_much_room_the_oldest_go(workplace, monkeypatch):
    files = [ResumeFile("train_x", {**IDENTITY, "seed": seed}, ()) for seed in range(4)]
    for age, file in enumerate(reversed(files)):
        if age == 0:
            file.save({"weight": torch.zeros(1000)}, {})
            file.finish()
        else:
            file.save_extension_point({"weight": torch.zeros(1000)}, {})
        for path in file.folder.glob("*.safetensors"):
            os.utime(path, (1e9 - age, 1e9 - age))
    files[0].save({"weight": torch.zeros(1000)}, {})  # of a run that goes on
    monkeypatch.setattr(resume, "_MAX_BYTES", 10_000)  # room for two
    files[2].finish()
    assert [{path.name for path in file.folder.glob("*.safetensors")} for file in files] == [
        {"state.safetensors"},
        set(),
        {"kept.safetensors"},
        {"ended.safetensors"},
    ]


def test_the_state_lies_in_the_main_checkout_even_when_dvc_runs_a_copy(workplace, monkeypatch):
    main, copy = workplace / "main", workplace / "copy"
    copy.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.chdir(copy)
    ResumeFile("train_x", IDENTITY, ()).save({}, {"step": 3})
    assert list(main.glob(".state/train_x/*/state.safetensors"))
    assert list(copy.iterdir()) == []
