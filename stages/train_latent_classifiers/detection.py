"""Detection scores: each class against all others."""

from typing import Any

from torch import Tensor

from latentline.core.attributes import Attribute

SCORES = ("auroc", "f1", "precision", "recall")


def detection(attribute: Attribute, probability: Tensor, predicted: Tensor, ground_truth: Tensor) -> dict[str, Any]:
    """Score each class against all others: area under the ROC curve, F1, precision and recall.

    A class that no test image or every test image has is left out, since its area is undefined.

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
    for index in range(len(attribute.classes)) if attribute.classes else [1]:
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
    if attribute.classes:
        scores["by_class"] = {attribute.classes[index]: of_class for index, of_class in by_index.items()}
    return scores
