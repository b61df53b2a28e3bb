"""Detection scores: each class against all others."""

import logging
from typing import Any

from torch import Tensor

from latentline.core.attributes import Attribute, most_frequent

log = logging.getLogger(__name__)

_MAX_SCORED = 1000  # classes
SCORES = ("auroc", "f1", "precision", "recall")


def detection(attribute: Attribute, probability: Tensor, predicted: Tensor, ground_truth: Tensor) -> dict[str, Any]:
    """Score each class against all others: area under the ROC curve, F1, precision and recall.

    A class that no test image or every test image has is left out, since its area is undefined. Of more than 1000
    classes only the most frequent ones are scored, and ``classes_scored`` counts them.

    Args:
        attribute: categorical, or binary with the one class 1.
        probability: (N, classes); (N, 2) of a binary attribute.
        predicted: values (N,).
        ground_truth: values (N,).

    Returns:
        Means over the classes, and ``by_class`` for a categorical attribute. Empty where every class is left out.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    by_index = {}
    indices = list(range(len(attribute.classes))) or [1]
    if len(indices) > _MAX_SCORED:
        indices = most_frequent(ground_truth, _MAX_SCORED).tolist()
        log.info("%s: %d of %d classes are scored", attribute.name, len(indices), len(attribute.classes))
    for index in indices:
        positive = ground_truth == index
        if not 0 < int(positive.sum()) < len(ground_truth):
            continue
        area = roc_auc_score(positive, probability[:, index])
        precision, recall, f1, _ = precision_recall_fscore_support(
            positive, predicted == index, average="binary", zero_division=0.0
        )
        by_index[index] = dict(zip(SCORES, map(float, (area, f1, precision, recall)), strict=True))
    if not by_index:
        return {}
    scores: dict[str, Any] = {
        score: sum(of_class[score] for of_class in by_index.values()) / len(by_index) for score in SCORES
    }
    if len(attribute.classes) > _MAX_SCORED:
        scores["classes_scored"] = len(by_index)
    if attribute.classes:
        scores["by_class"] = {attribute.classes[index]: of_class for index, of_class in by_index.items()}
    return scores
