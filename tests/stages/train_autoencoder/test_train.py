"""The weights depend on what train.py computes: not on previews, not on where the images are read from."""

import pandas as pd
import pytest
import torch

from latentline.autoencoders.load import load_autoencoder
from latentline.core.closure import module_closure
from latentline.core.paths import PREPARED
from latentline.data.store import read_split
from latentline.tools.params_file import read_recipe
from latentline.training import config as training
from stages.train_autoencoder import __main__ as train_autoencoder
from stages.train_autoencoder import train
from support.training_run import reference

CPU = torch.device("cpu")


def test_averaged_weights_are_the_ones_kept(run):
    last = run(ema_decay=None, epochs=3)[0].tensors
    same = run(ema_decay=0.0, epochs=3)[0].tensors
    averaged = run(ema_decay=0.9, epochs=3)[0].tensors
    assert all(torch.equal(last[name], same[name]) for name in last)
    assert any(not torch.equal(last[name], averaged[name]) for name in last)


def test_micro_batches_give_the_same_autoencoder_to_float_tolerance(run, root):
    optimizer = read_recipe("digits", root)["autoencoder"]["optimizer"] | {"batch_size": 10, "warmup_steps": 0}
    (whole, expected, _), (cut, metrics, _) = (
        run(optimizer=optimizer | {"accumulate": accumulate}) for accumulate in (1, 3)
    )
    for name in ("mse", "kl", "test_loss"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-3)
    assert any(not torch.equal(cut.tensors[name], tensor) for name, tensor in whole.tensors.items())  # it was cut


def test_images_that_are_read_from_disk_at_every_step_give_the_same_weights_as_images_in_memory(run, monkeypatch):
    in_memory, _, _ = reference(lambda: run(name="vae"))
    monkeypatch.setattr(training, "_MOST_BYTES", 0)
    from_disk, _, _ = run(name="vae")
    assert from_disk.sha256 == in_memory.sha256


@pytest.mark.parametrize("module", ["train", "diffae_training"])
def test_what_trains_imports_neither_figures_nor_report(root, module):
    closure = {path.relative_to(root).as_posix() for path in module_closure(f"stages.train_autoencoder.{module}", root)}
    assert not [file for file in closure if "report" in file or "figures" in file]


def test_the_resume_key_holds_the_code_of_the_stage_but_for_the_script_and_its_reports(root):
    folder = root / "stages" / "train_autoencoder"
    keyed = {path for module in train.COMPUTED_BY for path in module_closure(module, root)}
    outside = {path.name for path in folder.glob("*.py") if path not in keyed}
    assert outside == {"__main__.py", "report.py", "auxiliary_report.py", "diffae_report.py"}


def test_validation_is_the_mean_over_all_images_whatever_the_batch_and_the_same_every_time(run, monkeypatch):
    run(name="vae")
    network, val = load_autoencoder(CPU).network, read_split(PREPARED, "val")
    whole = train.loss_terms(network, val, CPU, seed=0)
    assert train.loss_terms(network, val, CPU, seed=0) == whole
    assert train.loss_terms(network, val, CPU, seed=1) != whole
    monkeypatch.setattr(train, "inference_batch", lambda shape: 3)
    in_batches = train.loss_terms(network, val, CPU, seed=0)
    assert in_batches == pytest.approx(whole, rel=1e-4)
    assert whole.keys() == {"loss", "mse", "kl"}
    history = pd.read_csv("fig/autoencoder/loss.csv")
    assert history["val_loss"].iloc[-1] == pytest.approx(whole["loss"], rel=1e-4)


def test_the_preview_receives_the_network_and_the_validation_images_after_each_epoch(run, monkeypatch):
    received = []
    monkeypatch.setattr(
        train_autoencoder, "draw_preview", lambda folder, params, device, net, val, epoch: received.append((val, epoch))
    )
    run(name="ae", epochs=2)
    assert [epoch for _, epoch in received] == [1, 2]
    assert len(received[0][0]) == len(read_split(PREPARED, "val"))
