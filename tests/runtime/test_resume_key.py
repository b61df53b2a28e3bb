"""The key of a saved state covers settings, inputs and the code that computes; the log names what changed."""

import hashlib
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentline.runtime import resume
from latentline.runtime.resume import ResumeFile

IDENTITY = {"settings": {"lr": 1e-3, "widths": [8, 16]}, "inputs": {"data": "ab" * 32}}


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
    """Return the folder of a stage whose ``train`` imports its ``loss`` and not its ``report``."""
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
def test_code_outside_of_the_import_closure_is_no_part_of_the_key(repository, name):
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


def test_the_closure_of_a_module_of_this_package_is_found_from_its_file():
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


def test_the_log_names_which_code_changed_since_the_newest_state(repository, caplog):
    old = _file()
    old.save({}, {"step": 1})
    (repository / "loss.py").write_text("loss = 2\n")
    expected = f"starts anew: stages/made_up/loss.py changed since state {old.folder.name}"
    assert _log_of_loading(_file(), caplog) == [expected]


def test_the_log_names_three_changes_and_counts_the_others(repository, caplog):
    (repository / "train.py").write_text("from stages.made_up import a_fifth, another, loss, other\n")
    old = _file()
    old.save({}, {"step": 1})
    for name in ("loss", "other", "another", "a_fifth"):
        (repository / f"{name}.py").write_text(f"{name} = 2\n")
    (message,) = _log_of_loading(_file({"lr": 2e-3, "widths": [8, 16]}), caplog)
    changed = "settings.lr, stages/made_up/a_fifth.py, stages/made_up/another.py and 2 more"
    assert message.startswith(f"starts anew: {changed} changed since")


def test_the_log_names_which_setting_or_input_changed(repository, caplog):
    _file().save({}, {"step": 1})
    (message,) = _log_of_loading(_file({"lr": 1e-3, "heads": 2}), caplog)
    assert message.startswith("starts anew: settings.heads, settings.widths changed since")
    other = ResumeFile("train_x", {**IDENTITY, "inputs": {"data": "cd" * 32}}, ["stages.made_up.train"])
    (message,) = _log_of_loading(other, caplog)
    assert message.startswith("starts anew: inputs.data changed since")


def test_equal_settings_in_tuples_are_no_change_and_empty_ones_are_one(repository, caplog):
    _file({"betas": (0.5, 0.9), "heads": {}}).save({}, {"step": 1})
    (message,) = _log_of_loading(_file({"betas": (0.5, 0.9), "heads": {"first": {}}}), caplog)
    assert message.startswith("starts anew: settings.heads, settings.heads.first changed since")


def test_the_newest_state_of_the_same_part_is_the_one_compared(repository, caplog):
    for age, (settings, part) in enumerate([({"lr": 1}, ""), ({"heads": 1}, ""), ({"width": 1}, "another part")]):
        file = _file(settings, part)
        file.save({}, {"step": 1})
        os.utime(file.folder / "state.safetensors", (1e9 + age, 1e9 + age))
    (message,) = _log_of_loading(_file({"depth": 1}), caplog)
    assert message.startswith("starts anew: settings.depth, settings.heads changed since")


def test_where_no_other_state_can_be_compared_the_log_is_empty(repository, caplog):
    assert _log_of_loading(_file(), caplog) == []
    for content in ("", "[]", "{}", '{"part": "", "code": [], "identity": {}}'):
        file = _file({"content": content})
        file.save({}, {"step": 1})
        (file.folder / "key.json").write_text(content)
    assert _log_of_loading(_file(), caplog) == []


def test_a_state_stores_what_its_key_is_made_of(repository):
    file = _file(part="first")
    file.save({}, {"step": 1})
    key = json.loads((file.folder / "key.json").read_text())
    assert key["identity"] == IDENTITY
    assert key["part"] == "first"
    assert key["code"]["stages/made_up/loss.py"] == hashlib.sha256((repository / "loss.py").read_bytes()).hexdigest()
    assert key["code"].keys() == {
        f"stages/{name}.py" for name in ("__init__", "made_up/__init__", "made_up/train", "made_up/loss")
    }
