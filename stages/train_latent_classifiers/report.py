"""Score the probes on test latents: metrics/latent_classifiers.json and fig/latent_classifiers."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, predict, split_logits
from latentline.core.files import replaced_folder, write_metrics
from latentline.core.labels import LabelTable
from latentline.core.paths import FIGURES, METRICS
from latentline.evaluation.agreement import NO_VALUE, agreement, confusion_sample, constant_agreement
from latentline.figures.plots import bars, confusion, notice, relation
from latentline.figures.spread import share_interval
from latentline.probes.probes import Logistic, probabilities
from stages.train_latent_classifiers.calibration import Bin, calibration_error, reliability
from stages.train_latent_classifiers.detection import SCORES, detection

_MAX_LOGITS = 1 << 26  # of all test latents; their probabilities take 8 bytes each, several times
_TITLES = {
    "auroc": "area under the ROC curve",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "r2": "R\u00b2",
}
_CHANCE = 0.5  # area under the ROC curve
_NOTHING_TO_LEARN = "nothing to learn: these images have neither labels nor attributes"
_CAPTIONS = "probes learn no captions; where there are captions, manipulate.prompts edits from one to another"

log = logging.getLogger(__name__)


def scored_rows(count: int, logits: int) -> Tensor | slice:
    """Return the rows of ``count`` test latents to score: all, or evenly spaced ones where logits would fill memory."""
    most = max(_MAX_LOGITS // max(logits, 1), 1)
    if count <= most:
        return slice(None)
    log.warning(
        "%d of %d test latents are scored, evenly spaced: %d logits each would fill memory", most, count, logits
    )
    return torch.linspace(0, count - 1, most).long()


def report(
    labels: LabelTable,
    logits: Tensor,
    logistic: Logistic,
    inverse_regularization: dict[str, float],
    fitted: dict[str, int],
) -> None:
    """Write metrics/latent_classifiers.json and fig/latent_classifiers.

    Args:
        labels: ground truth of the test split.
        logits: of the probes for the test split, (N, K).
        logistic: how the logits of several classes become probabilities.
        inverse_regularization: of each attribute's probe, by name.
        fitted: number of classes that a probe can predict, by name of the attribute; without those that can predict
            every class.
    """
    with replaced_folder(FIGURES / "latent_classifiers") as folder:
        if labels.schema:
            metrics = _score(folder, labels, logits, logistic, fitted)
            write_metrics(
                METRICS / "latent_classifiers.json", {**metrics, "inverse_regularization": inverse_regularization}
            )
            return
        log.info(_NOTHING_TO_LEARN)
        log.info(_CAPTIONS)
        notice(folder / "notice.png", _NOTHING_TO_LEARN)
        write_metrics(METRICS / "latent_classifiers.json", {"columns": 0})


def _score(
    folder: Path, labels: LabelTable, logits: Tensor, logistic: Logistic, fitted: dict[str, int]
) -> dict[str, Any]:
    """Draw the figures and return the metrics, from logits (N, K) and the ground truth of N images.

    Latents without a value of an attribute are left out of its scores.
    """
    schema = labels.schema
    by_column: dict[str, dict[str, Any]] = {}
    decisions: dict[str, tuple[Tensor, Tensor]] = {}  # confidence (N,), and whether correct (N,)
    columns = zip(schema, split_logits(schema, logits), predict(schema, logits).T, labels.values.T, strict=True)
    for attribute, every_logits, every_prediction, values in columns:
        present = ~values.isnan()
        own_logits, predicted, truth = every_logits[present], every_prediction[present], values[present]
        if not len(truth):
            by_column[attribute.name] = {"not_computed": NO_VALUE}
            continue
        if attribute.kind == "continuous":
            by_column[attribute.name] = {"r2": agreement(attribute, predicted, truth)}
            continue
        probability = probabilities(attribute, own_logits, logistic)  # (N, classes)
        confidence = probability.gather(1, predicted.long()[:, None])[:, 0]
        decisions[attribute.name] = confidence, predicted == truth
        by_column[attribute.name] = {
            "accuracy": agreement(attribute, predicted, truth),
            "accuracy_of_the_commonest_class": constant_agreement(attribute, truth),
            "calibration_error": calibration_error(reliability(*decisions[attribute.name])),
            **detection(attribute, probability, predicted, truth),
        }
        if (area := by_column[attribute.name].get("auroc", 1.0)) <= _CHANCE:
            log.warning(
                "%s: AUROC %.2f of test images is no better than chance, nor are its edits", attribute.name, area
            )
        if attribute.name in fitted:
            counts = {"classes": len(attribute.classes), "classes_fitted": fitted[attribute.name]}
            by_column[attribute.name] |= counts
        if attribute.name == CLASS:
            title = "Linear probe of test latents: number of images"
            confusion(folder / "confusion.png", *confusion_sample(attribute, predicted, truth), title=title)
    if decisions:
        chosen = [decisions[CLASS]] if CLASS in decisions else list(decisions.values())
        confidence, correct = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        _draw_reliability(folder / "reliability.png", reliability(confidence, correct), len(correct))
    attributes = {name: scores for name, scores in by_column.items() if name != CLASS}
    metrics = by_column.get(CLASS) or _means(attributes)
    shown = metrics.get("by_class", attributes)
    for score in (*SCORES, "r2"):
        if values := {name: scores[score] for name, scores in shown.items() if score in scores}:
            each = "attribute" if shown is attributes else "class"
            title = f"Linear probes: {_TITLES[score]} of each {each}"
            bars(folder / f"{score}.png", list(values), list(values.values()), _TITLES[score], title=title, mean=True)
    return {**metrics, **({"by_attribute": attributes} if attributes else {})}


def _draw_reliability(path: Path, bins: list[Bin], count: int) -> None:
    predictions = f"accuracy (ECE {calibration_error(bins):.3f})"
    lines = {
        predictions: [(part.confidence, part.accuracy) for part in bins],
        "share of all predictions": [(part.confidence, part.share) for part in bins],
    }
    bands = {predictions: [share_interval(part.accuracy, part.share * count) for part in bins]}
    title = f"Linear probes: reliability of {count} predictions"
    note = (
        "ECE (expected calibration error): mean distance of accuracy from confidence, over all predictions. "
        "Band: 95 % interval of the accuracy."
    )
    label, diagonal = "accuracy, share", "perfect calibration"
    relation(path, lines, "confidence", label, title=title, note=note, diagonal=diagonal, bands=bands)


def _means(by_column: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return each score's mean over the attributes that have it."""
    names = {name for scores in by_column.values() for name, value in scores.items() if isinstance(value, float)}
    present = {name: [scores[name] for scores in by_column.values() if name in scores] for name in names}
    return {name: sum(values) / len(values) for name, values in present.items()}
