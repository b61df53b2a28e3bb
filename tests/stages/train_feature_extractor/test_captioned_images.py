"""On images with captions the feature extractor learns a contrastive pair, which its checkpoint holds."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.feature_extractors import training
from latentline.feature_extractors.load import load_feature_extractor
from latentline.runtime.checkpoint import load_checkpoint
from support.captioned import CAPTIONS, captioned_run
from support.small_kinds import SmallRun
from support.training_run import save_after_each_step

pytestmark = pytest.mark.usefixtures("machine")

STAGE = "train_feature_extractor"
EPOCHS = {"feature_extractor.epochs": 3}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory, write_params) -> SmallRun:
    """Return a folder in which the stage ran. Tests that change it take a copy."""
    run = captioned_run(tmp_path_factory.mktemp("captioned") / "run", write_params, **EPOCHS)
    run.run("download", STAGE)
    return run


@pytest.fixture
def copied(captioned: SmallRun, tmp_path: Path) -> SmallRun:
    return captioned.copy(tmp_path / "copy")


def test_images_with_captions_alone_train_the_classifier_and_the_pair(captioned):
    checkpoint = load_checkpoint(captioned.folder / FEATURE_EXTRACTOR, kind="feature_extractor", made_by="")
    assert checkpoint.name == "classifier"
    assert {name.split(".")[0] for name in checkpoint.tensors} == {"layers", "head", "captions"}
    assert {"captions-train", "captions-val", "captions-test"} < checkpoint.trained_on.keys()
    history = pd.read_csv(captioned.folder / "fig" / "feature_extractor" / "loss.csv")
    assert history["caption_loss"].equals(history["loss"])
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["val_caption_retrieval"].between(0, 1).all()
    assert history["val_agreement"].isna().all()
    scores = captioned.metrics("feature_extractor")["caption_retrieval"]
    assert scores["candidates"] <= len(CAPTIONS)
    assert scores["recall_at_1"].keys() == {"real_test", "shuffled_captions"}
    extractor = load_feature_extractor(torch.device("cpu"), captioned.folder)
    assert extractor.captions.tokens(["A red SQUARE"]).shape == (1, 32)


def test_a_killed_training_continues_to_the_same_bytes(captioned, copied, monkeypatch, caplog):
    shutil.rmtree(copied.folder / ".state")
    save_after_each_step(monkeypatch)
    loss, steps = training.contrastive_loss, []

    def killed(*arguments):
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("killed")
        return loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "contrastive_loss", killed)
        with pytest.raises(RuntimeError, match="killed"):
            copied.run(STAGE)
    with caplog.at_level("INFO"):
        copied.run(STAGE)
    assert f"resumed {STAGE} at step 2" in caplog.messages
    assert sha256_file(copied.folder / FEATURE_EXTRACTOR) == sha256_file(captioned.folder / FEATURE_EXTRACTOR)


def test_labels_and_captions_are_learnt_together_and_also_on_a_pretrained_network(copied):
    rows = ["file,label", *(f"{number:02}.png,{'ab'[number % 2]}" for number in range(48))]
    (copied.folder / "labels.csv").write_text("\n".join(rows) + "\n")
    copied.run("download")
    for name in ("auto", "efficientnet_lite0"):
        copied.run(STAGE, **{"feature_extractor.name": name, "feature_extractor.epochs": 1})
        (row,) = pd.read_csv(copied.folder / "fig" / "feature_extractor" / "loss.csv").to_dict("records")
        assert row["loss"] == pytest.approx(row["label_loss"] + row["caption_loss"], rel=1e-4)
        metrics = copied.metrics("feature_extractor")
        assert metrics["feature_extractor"] == ("classifier" if name == "auto" else name)
        assert 0 <= metrics["accuracy"] <= 1
        assert 0 <= metrics["caption_retrieval"]["recall_at_1"]["real_test"] <= 1


def test_captions_that_are_all_equal_teach_nothing(copied, caplog):
    for path in (copied.folder / "pictures").glob("*.txt"):
        path.write_text("a picture")
    with caplog.at_level("INFO"):
        copied.run("download", STAGE)
    message = "nothing to learn from captions: the training images have fewer than two different ones"
    assert message in caplog.messages
    checkpoint = load_checkpoint(copied.folder / FEATURE_EXTRACTOR, kind="feature_extractor", made_by="")
    assert checkpoint.name == "efficientnet_lite0"
    assert "captions" not in checkpoint.settings


def test_longer_captions_are_counted_and_micro_batches_are_refused(copied, caplog):
    copied.run(STAGE, **{"feature_extractor.captions.length": 2, "feature_extractor.epochs": 1})
    message = "42 captions are longer than feature_extractor.captions.length (2 tokens) and are cut"
    assert message in caplog.messages
    with pytest.raises(UserError, match=r"^feature_extractor.optimizer.accumulate \(2\) must be 1 for images with cap"):
        copied.run(STAGE, **{"feature_extractor.optimizer.accumulate": 2})
