"""The classification accuracy score depends on training set and seed, and leaves the feature extractor as it is."""

from pathlib import Path

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.labels import schema_to_json
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.feature_extractors.build import build_feature_extractor
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.runtime.checkpoint import save_checkpoint
from latentline.tools.params_file import read_recipe
from stages.evaluate.accuracy_score import Labelled, accuracy_on_real, require_classes
from support.training_run import reference

COMPUTE = ComputeParams(device="cpu", threads=1, workers=0)
SCHEMA = (Attribute(CLASS, "categorical", ("dark", "bright")), Attribute("other", "binary"))


@pytest.fixture
def extractor(workplace: Path, root: Path) -> FeatureExtractor:
    """Return an untrained classifier of a class and an attribute."""
    constructor = {"shape": [1, 8, 8], "outputs": 3, "channels": 8, "features": 8, "dropout": 0.1}
    optimizer = {
        **read_recipe("default", root)["feature_extractor"]["optimizer"],
        "batch_size": 16,
        "lr": 0.01,
        "warmup_steps": 2,
    }
    training = {"epochs": 6, "label_smoothing": 0.05, "optimizer": optimizer}
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name="classifier",
        constructor=constructor,
        trained_on={},
        tensors=build_feature_extractor("classifier", **constructor).state_dict(),
        settings={"schema": schema_to_json(SCHEMA), "training": training},
    )
    return load_feature_extractor(torch.device("cpu"))


def _images(count: int) -> Labelled:
    labels = torch.arange(count) % 2
    return Labelled((torch.randint(100, (count, 1, 8, 8)) + 120 * labels[:, None, None, None]).to(torch.uint8), labels)


def test_the_score_follows_the_labels_of_the_training_set(extractor):
    training_set, test = _images(64), _images(40)
    before = {name: value.clone() for name, value in extractor.network.state_dict().items()}
    wrong = Labelled(training_set.images, 1 - training_set.labels)
    assert accuracy_on_real(extractor, training_set, test, seed=0, compute=COMPUTE) > 0.9
    assert accuracy_on_real(extractor, wrong, test, seed=0, compute=COMPUTE) < 0.1
    assert all(torch.equal(value, before[name]) for name, value in extractor.network.state_dict().items())


def test_the_same_training_set_gives_the_same_score_and_another_seed_another_one(extractor):
    torch.manual_seed(3)
    training_set = Labelled(torch.randint(256, (32, 1, 8, 8)).to(torch.uint8), torch.arange(32) % 2)
    test = Labelled(torch.randint(256, (200, 1, 8, 8)).to(torch.uint8), torch.arange(200) % 2)

    def score(seed: int) -> float:
        return reference(lambda: accuracy_on_real(extractor, training_set, test, seed, COMPUTE))

    scores = [score(seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_samples_without_a_class_are_refused_in_one_line():
    require_classes(["age", CLASS])
    message = r"^evaluate\.classification_accuracy_score \(true\) must be false for samples .*; set it to false, or "
    with pytest.raises(UserError, match=message) as caught:
        require_classes(["age"])
    assert "\n" not in str(caught.value)
