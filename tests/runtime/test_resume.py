import torch

from latentline.runtime.resume import ResumeFile

IDENTITY = {"knobs": {"lr": 1e-3, "widths": [8, 16]}, "inputs": {"data": "ab" * 32}}


def test_what_was_saved_last_is_what_is_loaded(workplace):
    file = ResumeFile("train_x", IDENTITY)
    for step in (1, 2):
        file.save({"w": torch.full((3,), float(step))}, {"step": step})
    tensors, meta = ResumeFile("train_x", IDENTITY).load()
    assert meta == {"step": 2}
    assert tensors["w"].tolist() == [2, 2, 2]


def test_nothing_saved_is_nothing_to_continue(workplace):
    assert ResumeFile("train_x", IDENTITY).load() is None


def test_other_knobs_inputs_or_stages_never_continue_from_each_other(workplace):
    others = [
        ("train_x", {**IDENTITY, "knobs": {"lr": 2e-3, "widths": [8, 16]}}),
        ("train_x", {**IDENTITY, "knobs": {"lr": 1e-3, "widths": [16, 8]}}),
        ("train_x", {**IDENTITY, "inputs": {"data": "cd" * 32}}),
        ("train_y", IDENTITY),
    ]
    folders = {ResumeFile(stage, identity).folder for stage, identity in [("train_x", IDENTITY), *others]}
    assert len(folders) == 5


def test_the_order_of_knobs_does_not_matter(workplace):
    assert ResumeFile("train_x", dict(reversed(IDENTITY.items()))).folder == ResumeFile("train_x", IDENTITY).folder


def test_other_code_does_not_continue(workplace, monkeypatch):
    before = ResumeFile("train_x", IDENTITY).folder
    module = type(torch)("latentline.made_up")
    module.__file__ = str(workplace / "made_up.py")
    monkeypatch.setitem(__import__("sys").modules, "latentline.made_up", module)
    folders = {before}
    for text in ("one = 1", "one = 2"):
        (workplace / "made_up.py").write_text(text)
        folders.add(ResumeFile("train_x", IDENTITY).folder)
    assert len(folders) == 3


def test_a_damaged_state_is_nothing_to_continue_and_a_warning_says_so(workplace, caplog):
    file = ResumeFile("train_x", IDENTITY)
    file.save({"w": torch.zeros(100)}, {"step": 1})
    state = file.folder / "state.safetensors"
    content = state.read_bytes()
    for damaged in (b"", content[:20], content[:-1], b"\xff" + content[1:]):
        caplog.clear()
        state.write_bytes(damaged)
        assert file.load() is None
        assert "starting over" in caplog.text


def test_removing_forgets_the_state_and_what_lies_beside_it(workplace):
    file = ResumeFile("train_x", IDENTITY)
    file.save({}, {})
    (file.folder / "preview.png").write_bytes(b"")
    file.remove()
    assert not file.folder.exists()
    assert file.load() is None
    file.remove()  # twice does no harm


def test_the_state_lies_in_the_main_checkout_even_when_dvc_runs_a_copy(workplace, monkeypatch):
    main, copy = workplace / "main", workplace / "copy"
    copy.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.chdir(copy)
    ResumeFile("train_x", IDENTITY).save({}, {"step": 3})
    assert list(main.glob(".state/train_x/*/state.safetensors"))
    assert list(copy.iterdir()) == []
