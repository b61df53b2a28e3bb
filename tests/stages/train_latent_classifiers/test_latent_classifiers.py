"""Stage ``train_latent_classifiers`` on latents whose labels are linear functions of them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier

from latentline.core.arrays import load_arrays
from latentline.core.attributes import Attribute, predict
from latentline.core.closure import module_closure
from latentline.core.labels import LabelTable, build_schema, schema_from_json
from latentline.latents.cache import LatentSplit, read_latents, write_cache
from stages.train_latent_classifiers import __main__ as train_latent_classifiers
from stages.train_latent_classifiers import report

pytestmark = pytest.mark.usefixtures("machine")

C = 1000.0
SHAPE = (2, 3, 4)
COUNTS = {"train": 400, "val": 5, "test": 100}
ATTRIBUTES = (
    Attribute("smiling", "binary"),
    Attribute("age", "continuous", mean=40.0, std=12.5),
    Attribute("hair", "categorical", ("black", "red", "none")),
)
CLASSES = ("cat", "dog", "owl")
SCORED = {"auroc.png", "f1.png", "precision.png", "recall.png", "reliability.png"}

Stage = Callable[..., dict[str, Any]]


def _splits(
    classes: tuple[str, ...] = CLASSES, attributes: tuple[Attribute, ...] = ATTRIBUTES
) -> dict[str, LatentSplit]:
    """Latents and labels: the largest of three projections, a sign, a number, and again the largest of three.

    Without ``classes`` there is no class; of the others there are those that ``attributes`` names, in the same order.
    """
    schema = build_schema(classes, attributes)
    splits = {}
    planes = torch.randn(8, 24)
    for name, count in COUNTS.items():
        latents = 3 * torch.randn(count, *SHAPE) + 1
        projected = ((latents - 1) / 3).flatten(1) @ planes.T  # (N, 8)
        label, hair = projected[:, :3].argmax(dim=1).float(), projected[:, 5:].argmax(dim=1).float()
        values = torch.stack([label, (projected[:, 3] > 0).float(), 40 + 2.5 * projected[:, 4], hair], dim=1)
        first = 0 if classes else 1
        splits[name] = LatentSplit(latents, LabelTable(schema, values[:, first : 1 + len(attributes)]))
    return splits


@pytest.fixture
def stage(workplace: Path, write_params: Callable[[Path, dict[str, object]], None]) -> Stage:
    """Runs the stage on a cache of the given splits and returns its metrics."""

    def run(splits: dict[str, LatentSplit], **params: object) -> dict[str, Any]:
        changed = {
            f"latent_classifiers.{name}": value for name, value in {"inverse_regularization": C, **params}.items()
        }
        write_params(workplace, {**changed, "compute.threads": 1})
        write_cache(
            workplace,
            {name: [split] for name, split in splits.items()},
            schema=splits["train"].labels.schema,
            autoencoder="ab" * 32,
        )
        train_latent_classifiers.main()
        return json.loads((workplace / "metrics" / "latent_classifiers.json").read_text())

    return run


def _probes() -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    tensors, meta = load_arrays(
        Path("checkpoints/latent_classifiers/latent_classifiers.safetensors"), "train_latent_classifiers"
    )
    return tensors["weight"], tensors["bias"], meta


def _standardised(name: str) -> torch.Tensor:
    """Latents (N, F) of a split, minus mean, by standard deviation, of each channel of the training split."""
    train, latents = (read_latents(split).latents.to_memory() for split in ("train", name))
    return ((latents - train.mean(dim=(0, 2, 3), keepdim=True)) / train.std(dim=(0, 2, 3), keepdim=True)).flatten(1)


def test_a_probe_no_better_than_chance_is_named_in_the_log(stage, monkeypatch, caplog):
    areas = iter([0.42, 0.9, 0.9])
    monkeypatch.setattr(report, "detection", lambda *inputs: {"auroc": next(areas, 0.9)})
    stage(_splits())
    assert [one.getMessage() for one in caplog.records if "chance" in one.getMessage()] == [
        "label: AUROC 0.42 of test images is no better than chance, nor are its edits"
    ]


def test_labels_that_are_linear_in_the_latents_are_learnt_whatever_their_kind(stage, workplace):
    metrics = stage(_splits())
    assert metrics["accuracy"] > 0.9
    assert metrics["accuracy_of_the_commonest_class"] < 0.5
    assert metrics["auroc"] > 0.98
    assert metrics["f1"] == pytest.approx(sum(metrics["by_class"][name]["f1"] for name in CLASSES) / 3, rel=1e-5)
    by_attribute = metrics["by_attribute"]
    assert by_attribute["smiling"]["accuracy"] > 0.9
    assert by_attribute["hair"]["accuracy"] > 0.9
    assert by_attribute["age"] == {"r2": pytest.approx(1, abs=1e-3)}
    weight, bias, meta = _probes()
    assert (weight.shape, bias.shape) == ((3 + 1 + 1 + 3, 24), (8,))
    assert schema_from_json(meta["schema"]) == build_schema(CLASSES, ATTRIBUTES)
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"confusion.png", *SCORED}


def test_metrics_count_the_classes_that_the_probe_can_predict(stage):
    splits = _splits()
    assert "classes_fitted" not in stage(splits)
    train = splits["train"].labels
    train.values[:, 0].clamp_(max=1)  # no training image of the third class
    metrics = stage(splits)
    assert (metrics["classes"], metrics["classes_fitted"]) == (3, 2)


def test_without_a_class_the_scores_are_the_attributes_means(stage, workplace):
    metrics = stage(_splits(classes=()))
    by_attribute = metrics.pop("by_attribute")
    assert metrics.pop("inverse_regularization") == dict.fromkeys(("smiling", "age", "hair"), C)
    both = [by_attribute[name] for name in ("smiling", "hair")]
    assert metrics == {
        **{name: pytest.approx((both[0][name] + both[1][name]) / 2, rel=1e-5) for name in both[0]},
        "r2": by_attribute["age"]["r2"],
    }
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"r2.png", *SCORED}


def test_two_classes_give_two_logits_which_predict_as_scikit_learn_does(stage):
    splits = _splits(CLASSES[:2], attributes=())
    for split in splits.values():
        split.labels.values.clamp_(max=1)
    stage(splits)
    weight, bias, _ = _probes()
    assert weight.shape == (2, 24)
    expected = (
        LogisticRegression(C=C, max_iter=200)
        .fit(_standardised("train"), splits["train"].labels.classes)
        .predict(_standardised("test"))
    )
    predicted = predict(build_schema(CLASSES[:2], ()), _standardised("test") @ weight.T + bias)[:, 0]
    assert predicted.tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 2


def test_the_scores_of_classes_are_scikit_learns(stage):
    splits = _splits(attributes=())
    metrics = stage(splits)
    probe = LogisticRegression(C=C, max_iter=200).fit(_standardised("train"), splits["train"].labels.classes)
    truth, z0 = splits["test"].labels.classes, _standardised("test")
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, probe.predict(z0)))
    assert metrics["f1"] == pytest.approx(f1_score(truth, probe.predict(z0), average="macro"), rel=1e-5)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(truth, probe.predict_proba(z0), multi_class="ovr"), abs=1e-3)


def test_binary_and_continuous_logits_are_scikit_learns_logit_and_number(stage):
    splits = _splits((), ATTRIBUTES[:2])
    stage(splits)
    weight, bias, _ = _probes()
    logit, age = (_standardised("test") @ weight.T + bias).T
    smiling, ages = splits["train"].labels.values.T
    expected = (
        LogisticRegression(C=C, max_iter=200)
        .fit(_standardised("train"), smiling)
        .decision_function(_standardised("test"))
    )
    torch.testing.assert_close(logit, torch.from_numpy(expected).float(), atol=0.05, rtol=0.01)
    expected = Ridge(alpha=1 / C).fit(_standardised("train"), ages).predict(_standardised("test"))
    torch.testing.assert_close(
        ATTRIBUTES[1].predict(age[:, None]), torch.from_numpy(expected).float(), atol=1e-2, rtol=0
    )


def test_a_class_without_a_training_image_is_never_predicted_and_the_others_are_learnt(stage):
    splits = _splits()
    for name in ("train", "val"):
        values = splits[name].labels.values
        values[values[:, 0] == 2, 0] = 0
        values[:, 3].clamp_(max=1)
    metrics = stage(splits)
    weight, bias, _ = _probes()
    predicted = predict(build_schema(CLASSES, ()), (_standardised("test") @ weight.T + bias)[:, :3])[:, 0]
    assert set(predicted.tolist()) == {0, 1}
    assert metrics["by_class"]["owl"] == {"auroc": 0.5, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert metrics["by_class"]["dog"]["auroc"] > 0.95
    assert not weight[2].any()


def test_a_value_that_never_varies_is_always_predicted_and_has_no_direction(stage):
    splits = _splits((), (ATTRIBUTES[0], Attribute("age", "continuous", mean=7.5), ATTRIBUTES[2]))
    for split in splits.values():
        split.labels.values.copy_(torch.tensor([1.0, 7.5, 2.0]))
    metrics = stage(splits)
    right = {"accuracy": 1, "accuracy_of_the_commonest_class": 1, "calibration_error": 0}
    assert metrics["by_attribute"] == {
        "smiling": right,
        "age": {"r2": 1},
        "hair": {**right, "classes": 3, "classes_fitted": 1},
    }
    assert not _probes()[0].any()


def test_a_single_class_is_always_predicted(stage):
    splits = _splits(("cat",), ())
    for split in splits.values():
        split.labels.values.zero_()
    metrics = stage(splits)
    assert metrics == {
        "accuracy": 1,
        "accuracy_of_the_commonest_class": 1,
        "calibration_error": 0,
        "inverse_regularization": {"label": C},
    }


def test_without_labels_the_stage_succeeds_and_logs_it(stage, workplace, caplog):
    with caplog.at_level(logging.INFO):
        assert stage(_splits((), ())) == {"columns": 0}
    assert "nothing to learn: these images have neither labels nor attributes" in caplog.messages
    weight, bias, meta = _probes()
    assert (weight.shape, bias.shape, meta["schema"]) == ((0, 24), (0,), [])
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"notice.png"}


def test_one_model_per_class_predicts_as_scikit_learns_does(stage):
    splits = _splits(attributes=())
    metrics = stage(splits, logistic="one_vs_rest")
    expected = OneVsRestClassifier(LogisticRegression(C=C, max_iter=200)).fit(
        _standardised("train"), splits["train"].labels.classes
    )
    truth = splits["test"].labels.classes
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, expected.predict(_standardised("test"))))
    assert metrics["auroc"] == pytest.approx(
        roc_auc_score(truth, expected.predict_proba(_standardised("test")), multi_class="ovr"), abs=1e-3
    )


def test_pooled_probes_use_the_channels_means_alone_and_fit_the_flat_latent(stage):
    splits = _splits(attributes=())
    for split in splits.values():
        split.labels.values.copy_(split.latents.mean(dim=(2, 3)).argmax(dim=1)[:, None])
    assert stage(splits, features="pooled")["accuracy"] > 0.95
    weight = _probes()[0].unflatten(1, SHAPE)
    torch.testing.assert_close(weight, weight.mean(dim=(2, 3), keepdim=True).expand_as(weight))


def test_the_regularisation_of_each_column_is_chosen_where_none_is_given(stage):
    splits = _splits()
    splits["val"] = splits["test"]
    # Random labels: the strongest regularisation has the lowest loss.
    splits["train"].labels.values[:, 0] = torch.randint(0, 3, (400,))
    chosen = stage(splits, inverse_regularization=None)["inverse_regularization"]
    assert chosen.keys() == {"label", "smiling", "age", "hair"}
    assert chosen["label"] < chosen["smiling"]


def test_what_the_checkpoint_depends_on_includes_the_probes_and_no_figure_or_report(root):
    closure = {
        path.relative_to(root).as_posix() for path in module_closure("stages.train_latent_classifiers.fit", root)
    }
    assert "src/latentline/probes/probes.py" in closure
    scoring = ("figures/", "evaluation/", "report.py", "calibration.py", "detection.py", "__main__.py")
    assert not [path for path in closure if any(part in path for part in scoring)]
