from importlib import metadata
from pathlib import Path

import pytest

from latentline.common.errors import UserError
from latentline.runtime.pretrained import perceptual_weights

KNOB = "autoencoder.perceptual_weight: 0.5"


def test_a_package_that_is_not_installed_is_named_with_the_knob_that_needs_it(monkeypatch):
    def absent(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(UserError) as caught:
        perceptual_weights(KNOB)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(KNOB)
    assert ".[perceptual]" in line


@pytest.mark.parametrize("content", [None, b"", b"cos\nsystem\n"])
def test_a_file_of_other_content_is_never_opened(monkeypatch, tmp_path, content):
    class Elsewhere:
        def locate_file(self, name: str) -> Path:
            return tmp_path / "weights"

    if content is not None:
        (tmp_path / "weights").write_bytes(content)
    monkeypatch.setattr(metadata, "distribution", lambda name: Elsewhere())
    monkeypatch.setattr("torch.load", lambda *arguments, **keywords: pytest.fail("opened"))
    with pytest.raises(UserError, match="other weights than expected"):
        perceptual_weights(KNOB)
