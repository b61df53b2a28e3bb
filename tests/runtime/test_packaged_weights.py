"""Weights come from the file of an installed package, verified, without running its code."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.runtime.packaged_weights import EFFICIENTNET_LITE0, PERCEPTUAL, PackagedWeights, read_packaged_weights

SETTING = "some.setting (0.5)"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """Install a package ``tiny-weights`` that fails on import; return the path for its weights."""
    monkeypatch.syspath_prepend(tmp_path)
    info, models = tmp_path / "tiny_weights-1.0.dist-info", tmp_path / "tiny_weights" / "models"
    info.mkdir()
    models.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    (models.parent / "__init__.py").write_text("raise RuntimeError('this package was imported')\n")
    return models / "tiny.pth"


def _weights(path: Path) -> PackagedWeights:
    return PackagedWeights("tiny-weights", "tiny_weights/models/tiny.pth", sha256_file(path), "install it")


def test_the_weights_come_from_the_file_without_importing_the_package(package):
    torch.save({"a": torch.arange(3.0)}, package)
    weights = read_packaged_weights(_weights(package), SETTING)
    assert weights.keys() == {"a"}
    assert torch.equal(weights["a"], torch.arange(3.0))


class _RunsCode:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def test_a_file_that_would_run_code_is_refused(package, capsys):
    torch.save({"a": _RunsCode()}, package)
    with pytest.raises(pickle.UnpicklingError):
        read_packaged_weights(_weights(package), SETTING)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [EFFICIENTNET_LITE0, PERCEPTUAL], ids=lambda wanted: wanted.package)
def test_a_package_that_is_not_installed_is_named_with_the_setting_that_needs_it(wanted):
    with pytest.raises(UserError) as caught:
        read_packaged_weights(replace(wanted, package="no-such-weights"), SETTING)
    (line,) = str(caught.value).splitlines()
    assert line == f"{SETTING} needs the package no-such-weights, which is not installed; {wanted.remedy}"


@pytest.mark.parametrize("content", [None, b"", b"cos\nsystem\n"])
def test_a_file_of_other_content_is_never_opened(package, monkeypatch, content):
    torch.save({"a": torch.arange(3.0)}, package)
    wanted = _weights(package)
    package.unlink()
    if content is not None:
        package.write_bytes(content)
    monkeypatch.setattr("torch.load", lambda *arguments, **keywords: pytest.fail("opened"))
    with pytest.raises(UserError, match="tiny-weights holds other weights than expected; remove it, then install it"):
        read_packaged_weights(wanted, SETTING)
