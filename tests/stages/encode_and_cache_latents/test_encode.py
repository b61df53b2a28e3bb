"""Encoding: what the resume key covers, and latents that the number format cannot hold."""

import pytest

from latentline.autoencoders.identity import Identity
from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from support.stage_runs import run_stage

pytestmark = pytest.mark.usefixtures("machine")


def test_encoding_imports_neither_figures_nor_the_report(root):
    closure = module_closure("stages.encode_and_cache_latents.encode", root)
    files = {path.relative_to(root).as_posix() for path in closure}
    assert not [file for file in files if "figures" in file or file.endswith(("report.py", "export.py"))]
    assert "src/latentline/latents/cache.py" in files
    assert "src/latentline/autoencoders/conv.py" in files


@pytest.mark.parametrize(("dtype", "refused"), [("float16", True), ("float32", False)])
def test_latents_that_the_number_format_cannot_hold_stop_with_the_setting(
    workplace, write_params, monkeypatch, dtype, refused
):
    settings = {"data.name": "digits", "data.limit": 20, "autoencoder.name": "identity", "latents.dtype": dtype}
    write_params(workplace, {**settings, "compute.device": "cpu", "compute.threads": 1, "compute.workers": 0})
    for stage in ("download", "train_autoencoder"):
        run_stage(stage)
    monkeypatch.setattr(Identity, "encode", lambda network, x, generator=None: x * 1e6)
    if refused:
        message = (
            r"^latents\.dtype \(float16\) must give finite latents, not NaN or infinity in \d+ of \d+; take float32"
        )
        with pytest.raises(UserError, match=message):
            run_stage("encode_and_cache_latents")
    else:
        run_stage("encode_and_cache_latents")
