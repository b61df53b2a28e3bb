"""What stage ``train_latent_classifiers`` tells about its probes: metrics of the test split and fig/latent_classifiers."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute, predict, split_logits
from latentline.core.files import replaced_folder, write_metrics
from latentline.core.paths import FIGURES, METRICS
from latentline.evaluation.agreement import agreement, confusion_counts, constant_agreement
from latentline.figures.plots import bars, confusion, notice, relation
from latentline.probes.probes import Logistic, probabilities
from stages.train_latent_classifiers.calibration import Bin, calibration_error, reliability
from stages.train_latent_classifiers.detection import SCORES, detection

_NOTHING = "nothing to learn: these images have neither labels nor attributes"

log = logging.getLogger(__name__)


def report(
    columns: Sequence[Attribute], outputs: Tensor, known: Tensor, logistic: Logistic, strengths: dict[str, float]
) -> None:
    """Write metrics/latent_classifiers.json and fig/latent_classifiers.

    Args:
        columns: all.
        outputs: of the probes for the test split, (N, K).
        known: of the test split, (N, A).
        logistic: what the outputs for several classes mean.
        strengths: the inverse regularisation of each column's probe, by name.
    """
    with replaced_folder(FIGURES / "latent_classifiers") as folder:
        if columns:
            metrics = _score(folder, columns, outputs, known, logistic)
            write_metrics(METRICS / "latent_classifiers.json", {**metrics, "inverse_regularization": strengths})
            return
        log.info(_NOTHING)
        notice(folder / "notice.png", _NOTHING)
        write_metrics(METRICS / "latent_classifiers.json", {"columns": 0})


def _score(
    folder: Path, columns: Sequence[Attribute], outputs: Tensor, known: Tensor, logistic: Logistic
) -> dict[str, Any]:
    """The metrics; draws the figures."""
    by_column: dict[str, dict[str, Any]] = {}
    decisions: dict[str, tuple[Tensor, Tensor]] = {}  # confidence (N,) and whether right (N,)
    predictd = predict(columns, outputs)
    for column, given, answers, truth in zip(columns, split_logits(columns, outputs), predictd.T, known.T, strict=True):
        if column.kind == "continuous":
            by_column[column.name] = {"r2": agreement(column, answers, truth)}
            continue
        probability = probabilities(column, given, logistic)  # (N, classes)
        decisions[column.name] = probability.gather(1, answers.long()[:, None])[:, 0], answers == truth
        by_column[column.name] = {
            "accuracy": agreement(column, answers, truth),
            "accuracy_of_the_commonest_class": constant_agreement(column, truth),
            "calibration_error": calibration_error(reliability(*decisions[column.name])),
            **detection(column, probability, answers, truth),
        }
        if column.name == CLASS:
            confusion(folder / "confusion.png", confusion_counts(column, answers, truth).numpy(), column.classes)
    if decisions:
        chosen = [decisions[CLASS]] if CLASS in decisions else list(decisions.values())
        confidence, right = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        _draw_reliability(folder / "reliability.png", reliability(confidence, right))
    attributes = {name: scores for name, scores in by_column.items() if name != CLASS}
    metrics = by_column.get(CLASS) or _means(attributes)
    shown = metrics.get("by_class", attributes)
    for score in (*SCORES, "r2"):
        if some := {name: scores[score] for name, scores in shown.items() if score in scores}:
            bars(folder / f"{score}.png", list(some), list(some.values()), f"{score} on test latents")
    return {**metrics, **({"by_attribute": attributes} if attributes else {})}


def _draw_reliability(path: Path, bins: list[Bin]) -> None:
    lines = {
        f"decisions ({calibration_error(bins):.3f} from the diagonal)": [
            (part.confidence, part.accuracy) for part in bins
        ],
        "share of the decisions": [(part.confidence, part.share) for part in bins],
    }
    relation(path, lines, "probability given to the decision", "share that is right", diagonal=True)


def _means(by_column: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each score's mean over the columns that have it."""
    names = {name for scores in by_column.values() for name, value in scores.items() if isinstance(value, float)}
    had = {name: [scores[name] for scores in by_column.values() if name in scores] for name in names}
    return {name: sum(values) / len(values) for name, values in had.items()}
