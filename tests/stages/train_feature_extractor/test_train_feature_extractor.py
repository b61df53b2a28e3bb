"""Stage ``train_feature_extractor``: which network it builds, what it stores, and what its weights depend on."""

import json

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.closure import module_closure
from latentline.core.files import write_sealed_json
from latentline.core.labels import LabelTable, schema_from_json, schema_to_json, write_labelled_rows
from latentline.core.paths import FEATURE_EXTRACTOR, FIGURES, METRICS, PREPARED
from latentline.data.store import StoreCard
from latentline.feature_extractors.build import PretrainedExtractor
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.load import load_feature_extractor
from latentline.feature_extractors.training import ClassifierTraining
from latentline.runtime.checkpoint import load_checkpoint
from latentline.tools.params_file import read_recipe
from stages.train_feature_extractor import __main__ as stage
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_feature_extractor.train import build

pytestmark = pytest.mark.usefixtures("machine")

CPU = torch.device("cpu")
SCHEMA = (Attribute(CLASS, "categorical", ("dark", "bright")), Attribute("dotted", "binary"))
SMALL = {"channels": 8, "features": 8, "epochs": 8}
OPTIMIZER = {"batch_size": 8, "lr": 0.01, "warmup_steps": 2}
SETTINGS = {f"feature_extractor.{name}": value for name, value in SMALL.items()}
SETTINGS |= {f"feature_extractor.optimizer.{name}": value for name, value in OPTIMIZER.items()}
SETTINGS |= {"compute.device": "cpu", "compute.threads": 1}


@pytest.fixture
def params(root) -> FeatureExtractorParams:
    section = read_recipe("default", root)["feature_extractor"]
    return FeatureExtractorParams(**{**section, "channels": 8, "features": 8})


def _card(schema: tuple[Attribute, ...] = SCHEMA) -> StoreCard:
    return StoreCard(schema, (1, 8, 8), horizontal_flip=False, counts={}, sha256={})


def _prepare(schema: tuple[Attribute, ...]) -> None:
    """Write 40 images per split: the class is the brightness, the attribute a dot."""
    PREPARED.mkdir(parents=True)
    splits = {}
    for split in ("train", "val", "test"):
        values = torch.stack([torch.arange(40) % 2, torch.arange(40) // 2 % 2], dim=1).float()
        images = torch.randint(0, 60, (40, 1, 8, 8)) + 100 * values[:, :1, None, None].long()
        images[:, :, :3, :3] += 90 * values[:, 1:, None, None].long()
        labels = LabelTable(SCHEMA, values).select([column.name for column in schema])
        splits[split] = write_labelled_rows(PREPARED, split, "images", [(images.to(torch.uint8), labels)], {})
    card = {"schema": schema_to_json(schema), "shape": [1, 8, 8], "horizontal_flip": False, "splits": splits}
    write_sealed_json(PREPARED / "card.json", card)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("auto", [[0.0, 1.0], [1.0, 1.0]], ConvClassifier),
        ("auto", [[0.0, 1.0], [0.0, 1.0]], PretrainedExtractor),  # nothing to learn
        ("auto", [[0.0, 1.0], [0.0, float("nan")]], PretrainedExtractor),
        ("classifier", [[0.0, 1.0], [0.0, 1.0]], ConvClassifier),
        ("efficientnet_lite0", [[0.0, 1.0], [1.0, 1.0]], PretrainedExtractor),
    ],
)
def test_the_classifier_is_built_where_labels_differ_or_where_it_is_named(params, name, values, expected):
    built = build(params.model_copy(update={"name": name}), _card(), torch.tensor(values), 0, CPU)
    assert isinstance(built.network, expected)
    assert built.constructor["outputs"] == 3
    assert built.name == ("classifier" if expected is ConvClassifier else "efficientnet_lite0")


def test_weights_depend_on_the_seed_alone(params):
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    first, same, other = (build(params, _card(), labels, seed, CPU).network.head.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_images_with_labels_train_a_classifier_that_is_scored_and_stored(workplace, write_params):
    _prepare(SCHEMA)
    write_params(workplace, SETTINGS)
    stage.main()
    metrics = json.loads((METRICS / "feature_extractor.json").read_text())
    assert metrics["feature_extractor"] == metrics["judge"] == "classifier"
    assert metrics["by_column"].keys() == metrics["by_column_of_the_best_constant"].keys() == {CLASS, "dotted"}
    assert metrics["by_column"][CLASS] == metrics["accuracy"] > metrics["accuracy_of_the_commonest_class"] == 0.5
    assert {path.name for path in (FIGURES / "feature_extractor").iterdir()} == {
        "loss.csv",
        "loss.png",
        "confusion.png",
    }
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    assert schema_from_json(checkpoint.settings["schema"]) == SCHEMA
    assert ClassifierTraining.from_json(checkpoint.settings["training"]).epochs == 8
    assert load_feature_extractor(CPU).schema == SCHEMA


def test_images_without_labels_take_the_pretrained_network_as_it_is(workplace, write_params, caplog):
    _prepare(())
    write_params(workplace, SETTINGS)
    with caplog.at_level("INFO"):
        stage.main()
    message = "nothing to learn: these images have neither labels nor attributes"
    assert f"{message}; the feature extractor is efficientnet_lite0 as pretrained" in caplog.messages
    metrics = json.loads((METRICS / "feature_extractor.json").read_text())
    assert metrics == {"feature_extractor": "efficientnet_lite0", "judge": "efficientnet_lite0"}
    assert {path.name for path in (FIGURES / "feature_extractor").iterdir()} == {"loss.csv", "notice.png"}
    assert load_feature_extractor(CPU).schema == ()


def test_the_training_imports_neither_figures_nor_the_report(root):
    module = "stages.train_feature_extractor.train"
    closure = {path.relative_to(root).as_posix() for path in module_closure(module, root)}
    assert "src/latentline/feature_extractors/classifier.py" in closure
    assert "stages/train_feature_extractor/report.py" not in closure
    assert [path for path in closure if path.startswith("src/latentline/figures/")] == []
