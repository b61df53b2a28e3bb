"""``compute.gradient_checkpointing`` changes the memory of a training, and no byte of its checkpoint."""

import shutil

import pytest

from latentline.core.paths import AUTOENCODER, DENOISER
from latentline.nn import gradient_checkpointing
from support.stage_runs import DIGITS, run_stage

pytestmark = pytest.mark.usefixtures("machine")


@pytest.mark.parametrize(("stage", "path"), [("train_autoencoder", AUTOENCODER), ("train_denoiser", DENOISER)])
def test_a_training_ends_with_the_same_bytes(digits_run, workplace, write_params, monkeypatch, stage, path):
    for made in ("data", "encoded_img", "checkpoints/autoencoder"):
        shutil.copytree(digits_run / made, workplace / made)
    computed = []

    def counted(*arguments, **options):
        computed.append(1)
        return checkpoint(*arguments, **options)

    checkpoint = gradient_checkpointing.checkpoint
    monkeypatch.setattr(gradient_checkpointing, "checkpoint", counted)
    write_params(workplace, {**DIGITS, "compute.gradient_checkpointing": True})
    run_stage(stage)
    assert len(computed) > 10
    assert path.read_bytes() == (digits_run / path).read_bytes()
