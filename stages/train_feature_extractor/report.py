"""Score the feature extractor on the test split and draw its figures."""

import logging
from pathlib import Path
from typing import Any

import torch

from latentline.core.attributes import CLASS
from latentline.core.files import write_metrics
from latentline.core.labels import Schema
from latentline.data.store import ImageSplit
from latentline.evaluation.agreement import NO_VALUE, agreement, confusion_sample, constant_agreement
from latentline.feature_extractors.features import extract_features
from latentline.feature_extractors.retrieval import caption_retrieval
from latentline.feature_extractors.training import labels_of_features
from latentline.figures.plots import confusion, curve_panels, notice, write_table
from stages.train_feature_extractor.captions import Captions
from stages.train_feature_extractor.train import NewExtractor

_NOTHING = "nothing to learn: these images have neither labels nor attributes"
_DRAWN = {
    "loss": "training loss",
    "val_agreement": "validation agreement",  # of numbers; of classes and attributes it is the accuracy
    "val_caption_retrieval": "validation R@1 of captions",
}

log = logging.getLogger(__name__)


def report_untrained(metrics_file: Path, folder: Path, name: str) -> None:
    """Write the metrics and a notice for images without labels; the pretrained network ``name`` was not trained."""
    log.info("%s; the feature extractor is %s as pretrained", _NOTHING, name)
    write_metrics(metrics_file, _naming(name))
    write_table(folder / "loss.csv", [], ["epoch", "loss", "val_agreement"])
    notice(folder / "notice.png", _NOTHING)


def report(
    metrics_file: Path,
    folder: Path,
    extractor: NewExtractor,
    schema: Schema,
    test: ImageSplit,
    history: list[dict[str, float]],
    device: torch.device,
    seed: int,
    captions: Captions | None,
) -> None:
    """Write the metrics of the ``test`` split, and the figures.

    A column without any value in this split has no score: None, for the reason in ``not_computed``.

    Args:
        metrics_file: metrics/feature_extractor.json.
        folder: of the figures.
        extractor: trained, on ``device``.
        schema: of the labels that it predicts.
        test: images and labels.
        history: of the training.
        device: of the network.
        seed: of the captions among which an image's own is sought, where they are many.
        captions: that the extractor's pair has learnt; None = it has no pair.
    """
    features = extract_features(extractor.network, test.images, device, progress=True)
    predicted = labels_of_features(extractor.network, features, schema, device)
    columns = list(zip(schema, predicted.T, test.labels.values.T, strict=True))
    scores: dict[str, Any] = {column.name: agreement(column, answers, targets) for column, answers, targets in columns}
    references: dict[str, Any] = {column.name: constant_agreement(column, targets) for column, _, targets in columns}
    metrics: dict[str, Any] = {
        **_naming(extractor.name),
        "by_column": scores,
        "by_column_of_the_best_constant": references,
    }
    if reasons := {name: NO_VALUE for name, score in scores.items() if score is None}:
        metrics["not_computed"] = reasons
    discrete = [column.name for column in schema if column.kind != "continuous" and column.name not in reasons]
    if averaged := [CLASS] if CLASS in scores else discrete:
        metrics["accuracy"] = sum(scores[column] for column in averaged) / len(averaged)
        metrics["accuracy_of_the_commonest_class"] = sum(references[column] for column in averaged) / len(averaged)
    if extractor.pair and captions:
        tokens = {"real_test": captions.tokens["test"]}
        metrics["caption_retrieval"] = caption_retrieval(extractor.pair.model, {"real_test": features}, tokens, seed)
    write_metrics(metrics_file, metrics)
    # `dvc plots` needs the column of agreement, also where there is none.
    write_table(folder / "loss.csv", history, list(dict.fromkeys([*history[0], "val_agreement"])))
    accuracy = {} if any(column.kind == "continuous" for column in schema) else {"val_agreement": "validation accuracy"}
    panels = {label: [name] for name, label in {**_DRAWN, **accuracy}.items() if name in history[0]}
    curve_panels(folder / "loss.png", history, "epoch", panels, title="Training of the feature extractor")
    for column, answers, targets in columns:
        if column.name == CLASS:
            title = "Feature extractor on test images: number of images"
            confusion(folder / "confusion.png", *confusion_sample(column, answers, targets), title=title)


def _naming(name: str) -> dict[str, Any]:
    return {"feature_extractor": name, "judge": name}  # "judge" for readers of earlier versions
