"""Sets of a few tiny images run through all stages; scores that they are too few for are null, with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentline.core.errors import UserError
from support.checkout import STAGES
from support.small_kinds import SMALL, SmallRun

pytestmark = pytest.mark.usefixtures("machine")


def _small_run(folder: Path, count: int, write_params: Any, **params: object) -> SmallRun:
    """Return a folder with ``count`` images of 3x4x4 in two classes, in an array, and with settings for them."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4)).astype(np.uint8)
    np.savez(folder / "x.npz", x=images, y=np.arange(count) % 2)
    (folder / "data" / "edit").mkdir(parents=True)
    source = {"data.name": "array", "data.path": "x.npz", "data.labels": SMALL["data.labels"]}
    (folder / "labels.csv").write_text("\n")
    return SmallRun(folder, ["label"], {**source, "evaluate.neighbours": 1, **params}, write_params)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_five_tiny_images_run_through_all_stages_and_what_is_not_computed_is_null(
    tmp_path, write_params, caplog, batch_size
):
    run = _small_run(tmp_path, 5, write_params, **{"feature_extractor.optimizer.batch_size": batch_size})
    run.run(*STAGES)
    counts = {name: run.metrics("data")[name]["count"] for name in ("train", "val", "test")}
    assert counts == {"train": 3, "val": 1, "test": 1}
    autoencoder, scores = run.metrics("autoencoder"), run.metrics("evaluate")
    assert autoencoder["active_units"] is None
    assert autoencoder["not_computed"]["active_units"] == "needs at least 2 test images, not 1"
    assert not [message for message in caplog.messages if "collapsed" in message]
    assert scores["fd"] >= 0
    assert {name for name, value in scores.items() if value is None} == {
        "fd_real_test",
        "fd_floor_real_test",
        "fd_reconstruction",
        "fd_of_decoded_noise",
        "kd_real_test",
        "kd_floor_real_test",
        *(f"{name}_of_real_test" for name in ("precision", "recall", "density", "coverage")),
    }
    assert scores["not_computed"]["kd_real_test"] == "needs at least 2 images in each set, not 1"
    assert scores["not_computed"].keys() == {name for name, value in scores.items() if value is None} - {
        "fd_floor_real_test",
        "kd_floor_real_test",
    }


def test_more_neighbours_than_a_split_has_are_refused_before_anything_is_written(tmp_path, write_params):
    run = _small_run(tmp_path, 12, write_params, **{"evaluate.neighbours": 3})
    message = r"^evaluate\.neighbours \(3\) must be less than the \d images of split test; lower it, or prepare more"
    with pytest.raises(UserError, match=message):
        run.run("download")
    assert not (tmp_path / "data" / "prepared").exists()
    run.run("download", **{"evaluate.neighbours": 1})
    for stage in STAGES[1:]:
        with pytest.raises(UserError, match=message):
            run.run(stage)
    assert not (tmp_path / "checkpoints").exists()


def test_an_index_beyond_the_test_images_is_refused_first_unless_there_are_files_to_edit(tmp_path, write_params):
    run = _small_run(tmp_path, 12, write_params, **{"manipulate.images": [0, 9]})
    message = r"^manipulate\.images \(9\) must be from 0 to \d, the test images; correct the index$"
    with pytest.raises(UserError, match=message):
        run.run("download")
    (tmp_path / "data" / "edit" / ".gitignore").write_text("*")
    with pytest.raises(UserError, match=message):
        run.run("download")
    (tmp_path / "data" / "edit" / "x.png").write_bytes(b"")
    run.run("download")


def test_an_unknown_target_is_refused_before_any_training(tmp_path, write_params):
    run = _small_run(tmp_path, 12, write_params)
    message = r"^manipulate\.target_names \('dog'\) must be one of 0, 1; correct it$"
    for stage in ("download", "train_autoencoder"):
        with pytest.raises(UserError, match=message):
            run.run(stage, **{"manipulate.target_names": ["1", "dog"]})
        run.run("download", **{"manipulate.target_names": ["1"]})
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("denoiser.condition", "class", r"^denoiser\.condition \(class\) must be all or none for images without class"),
        ("evaluate.bayes.count", 5, r"^evaluate\.bayes\.count \(5\) must be 0 for images without class labels; set it"),
        ("evaluate.classification_accuracy_score", True, r" \(true\) must be false for images without class labels; "),
        ("manipulate.source_class", "cat", r"^manipulate\.source_class \('cat'\) must be empty for images without"),
        ("manipulate.target_names", ["cat"], r"^manipulate\.target_names \('cat'\) must be empty for images without"),
    ],
)
def test_settings_that_need_classes_are_refused_first_where_there_are_none(
    tmp_path, write_params, setting, value, message
):
    run = _small_run(tmp_path, 12, write_params)
    np.savez(tmp_path / "x.npz", x=np.arange(12 * 48, dtype=np.uint8).reshape(12, 3, 4, 4))
    for stage in ("download", "train_autoencoder"):
        with pytest.raises(UserError, match=message):
            run.run(stage, **{setting: value})
        run.run("download")
    assert not (tmp_path / "checkpoints").exists()
