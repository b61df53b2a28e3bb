"""Stage ``train_latent_classifiers`` on latents of which the answers are linear functions."""

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
from latentline.core.attributes import Attribute, all_columns, decide, schema_from_json
from latentline.latents.cache import LatentSplit, read_latents, write_cache
from stages.train_latent_classifiers import __main__ as train_latent_classifiers

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


def _splits(labels: bool = True, attributes: int = 3) -> dict[str, LatentSplit]:
    """Latents, labels (the largest of three projections) and the first ``attributes`` of a sign, a number and again a largest projection."""
    splits = {}
    planes = torch.randn(8, 24)
    for name, count in COUNTS.items():
        latents = 3 * torch.randn(count, *SHAPE) + 1
        seen = ((latents - 1) / 3).flatten(1) @ planes.T  # (N, 8)
        known = torch.stack([(seen[:, 3] > 0).float(), 40 + 2.5 * seen[:, 4], seen[:, 5:].argmax(dim=1).float()], dim=1)
        splits[name] = LatentSplit(
            latents, seen[:, :3].argmax(dim=1) if labels else None, known[:, :attributes] if attributes else None
        )
    return splits


@pytest.fixture
def stage(workplace: Path, write_params: Callable[[Path, dict[str, object]], None]) -> Stage:
    """Runs the stage on a cache of the given splits and returns its metrics."""

    def run(
        splits: dict[str, LatentSplit],
        classes: tuple[str, ...] = CLASSES,
        attributes: tuple[Attribute, ...] = ATTRIBUTES,
        **params: object,
    ) -> dict[str, Any]:
        changed = {
            f"latent_classifiers.{name}": value for name, value in {"inverse_regularization": C, **params}.items()
        }
        write_params(workplace, {**changed, "compute.threads": 1})
        write_cache(
            workplace / "encoded_img",
            {name: [split] for name, split in splits.items()},
            classes=classes,
            attributes=attributes,
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
    train, latents = (read_latents(split).latents.load() for split in ("train", name))
    return ((latents - train.mean(dim=(0, 2, 3), keepdim=True)) / train.std(dim=(0, 2, 3), keepdim=True)).flatten(1)


def test_what_is_linear_in_the_latents_is_learnt_whatever_its_kind(stage, workplace):
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
    assert schema_from_json(meta["columns"]) == all_columns(CLASSES, ATTRIBUTES)
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"confusion.png", *SCORED}


def test_without_a_class_the_scores_are_the_attributes_means(stage, workplace):
    metrics = stage(_splits(labels=False), classes=())
    by_attribute = metrics.pop("by_attribute")
    assert metrics.pop("inverse_regularization") == dict.fromkeys(("smiling", "age", "hair"), C)
    both = [by_attribute[name] for name in ("smiling", "hair")]
    assert metrics == {
        **{name: pytest.approx((both[0][name] + both[1][name]) / 2, rel=1e-5) for name in both[0]},
        "r2": by_attribute["age"]["r2"],
    }
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"r2.png", *SCORED}


def test_two_classes_give_two_outputs_which_decide_as_scikit_learn_does(stage):
    splits = _splits(attributes=0)
    for split in splits.values():
        split.labels.clamp_(max=1)
    stage(splits, classes=CLASSES[:2], attributes=())
    weight, bias, _ = _probes()
    assert weight.shape == (2, 24)
    expected = (
        LogisticRegression(C=C, max_iter=200)
        .fit(_standardised("train"), splits["train"].labels)
        .predict(_standardised("test"))
    )
    decided = decide((Attribute("label", "categorical", CLASSES[:2]),), _standardised("test") @ weight.T + bias)[:, 0]
    assert decided.tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 2


def test_the_scores_of_classes_are_scikit_learns(stage):
    splits = _splits(attributes=0)
    metrics = stage(splits, attributes=())
    probe = LogisticRegression(C=C, max_iter=200).fit(_standardised("train"), splits["train"].labels)
    truth, z0 = splits["test"].labels, _standardised("test")
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, probe.predict(z0)))
    assert metrics["f1"] == pytest.approx(f1_score(truth, probe.predict(z0), average="macro"), rel=1e-5)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(truth, probe.predict_proba(z0), multi_class="ovr"), abs=1e-3)


def test_binary_and_continuous_outputs_are_scikit_learns_logit_and_number(stage):
    splits = _splits(labels=False, attributes=2)
    stage(splits, classes=(), attributes=ATTRIBUTES[:2])
    weight, bias, _ = _probes()
    logit, age = (_standardised("test") @ weight.T + bias).T
    smiling, ages = splits["train"].attributes.T
    expected = (
        LogisticRegression(C=C, max_iter=200)
        .fit(_standardised("train"), smiling)
        .decision_function(_standardised("test"))
    )
    torch.testing.assert_close(logit, torch.from_numpy(expected).float(), atol=0.05, rtol=0.01)
    expected = Ridge(alpha=1 / C).fit(_standardised("train"), ages).predict(_standardised("test"))
    torch.testing.assert_close(
        ATTRIBUTES[1].decide(age[:, None]), torch.from_numpy(expected).float(), atol=1e-2, rtol=0
    )


def test_a_class_without_a_training_image_is_never_decided_and_the_others_are_learnt(stage):
    splits = _splits()
    for split, label in (("train", 2), ("val", 2)):
        splits[split].labels[splits[split].labels == label] = 0
        splits[split].attributes[:, 2].clamp_(max=1)
    metrics = stage(splits)
    weight, bias, _ = _probes()
    decided = decide((Attribute("label", "categorical", CLASSES),), (_standardised("test") @ weight.T + bias)[:, :3])[
        :, 0
    ]
    assert set(decided.tolist()) == {0, 1}
    assert metrics["by_class"]["owl"] == {"auroc": 0.5, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert metrics["by_class"]["dog"]["auroc"] > 0.95
    assert not weight[2].any()


def test_what_never_varies_is_always_decided_and_has_no_direction(stage):
    splits = _splits(labels=False)
    for split in splits.values():
        split.attributes.copy_(torch.tensor([1.0, 7.5, 2.0]))
    metrics = stage(
        splits, classes=(), attributes=(ATTRIBUTES[0], Attribute("age", "continuous", mean=7.5), ATTRIBUTES[2])
    )
    assert metrics["by_attribute"] == {
        "smiling": {"accuracy": 1, "accuracy_of_the_commonest_class": 1, "calibration_error": 0},
        "age": {"r2": 1},
        "hair": {"accuracy": 1, "accuracy_of_the_commonest_class": 1, "calibration_error": 0},
    }
    assert not _probes()[0].any()


def test_a_single_class_leaves_nothing_to_tell_apart(stage):
    splits = _splits(attributes=0)
    for split in splits.values():
        split.labels.zero_()
    metrics = stage(splits, classes=("cat",), attributes=())
    assert metrics == {
        "accuracy": 1,
        "accuracy_of_the_commonest_class": 1,
        "calibration_error": 0,
        "inverse_regularization": {"label": C},
    }


def test_where_nothing_is_known_the_stage_succeeds_and_says_so(stage, workplace, caplog):
    with caplog.at_level(logging.INFO):
        assert stage(_splits(labels=False, attributes=0), classes=(), attributes=()) == {"columns": 0}
    assert any("nothing to learn" in record.message for record in caplog.records)
    weight, bias, meta = _probes()
    assert (weight.shape, bias.shape, meta["columns"]) == ((0, 24), (0,), [])
    assert {path.name for path in (workplace / "fig" / "latent_classifiers").iterdir()} == {"notice.png"}


def test_one_model_per_class_decides_as_scikit_learns_does(stage):
    splits = _splits(attributes=0)
    metrics = stage(splits, attributes=(), logistic="one_vs_rest")
    expected = OneVsRestClassifier(LogisticRegression(C=C, max_iter=200)).fit(
        _standardised("train"), splits["train"].labels
    )
    truth = splits["test"].labels
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, expected.predict(_standardised("test"))))
    assert metrics["auroc"] == pytest.approx(
        roc_auc_score(truth, expected.predict_proba(_standardised("test")), multi_class="ovr"), abs=1e-3
    )


def test_pooled_probes_know_the_channels_means_alone_and_fit_the_flat_latent(stage):
    splits = _splits(attributes=0)
    for split in splits.values():
        split.labels.copy_(split.latents.mean(dim=(2, 3)).argmax(dim=1))
    assert stage(splits, attributes=(), features="pooled")["accuracy"] > 0.95
    weight = _probes()[0].unflatten(1, SHAPE)
    torch.testing.assert_close(weight, weight.mean(dim=(2, 3), keepdim=True).expand_as(weight))


def test_the_regularisation_of_each_column_is_chosen_where_none_is_given(stage):
    splits = _splits()
    splits["val"] = splits["test"]
    splits["train"].labels.copy_(torch.randint(0, 3, (400,)))  # nothing to learn: this wants the strongest
    chosen = stage(splits, inverse_regularization=None)["inverse_regularization"]
    assert chosen.keys() == {"label", "smiling", "age", "hair"}
    assert chosen["label"] < chosen["smiling"]
