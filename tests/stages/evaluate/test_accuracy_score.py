"""The classification accuracy score: a judge that learns from given images, tested on others."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.compute_params import ComputeParams
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.feature_extractors.build import build_feature_extractor
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.runtime.checkpoint import save_checkpoint
from latentline.tools.params_file import read_recipe
from stages.evaluate.accuracy_score import Labelled, accuracy_on_real

COMPUTE = ComputeParams(
    device="cpu", threads=1, devices=1, nodes=1, strategy="ddp", workers=0, save_every_seconds=60.0, trackers=[]
)
COLUMNS = (Attribute(CLASS, "categorical", ("dark", "bright")), Attribute("other", "binary"))


@pytest.fixture
def judge(workplace: Path, root: Path) -> FeatureExtractor:
    """An untrained one that knows a class and an attribute."""
    constructor = {"shape": [1, 8, 8], "outputs": 3, "channels": 8, "features": 8, "dropout": 0.1}
    optimizer = {
        **read_recipe("default", root)["feature_extractor"]["optimizer"],
        "batch_size": 16,
        "lr": 0.01,
        "warmup_steps": 2,
    }
    lessons = {"epochs": 6, "label_smoothing": 0.05, "optimizer": optimizer}
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name="classifier",
        constructor=constructor,
        trained_on={},
        tensors=build_feature_extractor("classifier", **constructor).state_dict(),
        settings={"columns": [asdict(column) for column in COLUMNS], "lessons": lessons},
    )
    return load_feature_extractor(torch.device("cpu"))


def _images(count: int) -> Labelled:
    labels = torch.arange(count) % 2
    return Labelled((torch.randint(100, (count, 1, 8, 8)) + 120 * labels[:, None, None, None]).to(torch.uint8), labels)


def test_what_the_lesson_teaches_is_what_the_score_tells(judge):
    lesson, test = _images(64), _images(40)
    before = {name: value.clone() for name, value in judge.network.state_dict().items()}
    wrong = Labelled(lesson.images, 1 - lesson.labels)
    assert accuracy_on_real(judge, lesson, test, seed=0, compute=COMPUTE) > 0.9
    assert accuracy_on_real(judge, wrong, test, seed=0, compute=COMPUTE) < 0.1
    assert all(torch.equal(value, before[name]) for name, value in judge.network.state_dict().items())


def test_the_same_lesson_gives_the_same_score_and_another_seed_another_judge(judge):
    torch.manual_seed(3)
    lesson = Labelled(torch.randint(256, (32, 1, 8, 8)).to(torch.uint8), torch.arange(32) % 2)
    test = Labelled(torch.randint(256, (200, 1, 8, 8)).to(torch.uint8), torch.arange(200) % 2)
    scores = [accuracy_on_real(judge, lesson, test, seed, COMPUTE) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
