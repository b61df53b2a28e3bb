"""How well each class is told from the others."""

from typing import Any

from torch import Tensor

from latentline.core.attributes import Column

SCORES = ("auroc", "f1", "precision", "recall")


def detection(column: Column, probability: Tensor, decided: Tensor, known: Tensor) -> dict[str, Any]:
    """Area under the ROC curve, F1, precision and recall of each class against the others: their means, and by class where there are several.

    Classes without a test image, or with nothing but such, have no area and are left out.

    Args:
        column: categorical, or binary, of which 1 is the one class.
        probability: (N, classes), (N, 2) where binary.
        decided: (N,).
        known: (N,).
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    kinds = range(len(column.classes)) if column.classes else [1]
    by_kind = {}
    for kind in kinds:
        if not 0 < int((known == kind).sum()) < len(known):
            continue
        area = roc_auc_score(known == kind, probability[:, kind])
        precision, recall, f1, _ = precision_recall_fscore_support(known == kind, decided == kind, average="binary", zero_division=0.0)
        by_kind[kind] = dict(zip(SCORES, map(float, (area, f1, precision, recall)), strict=True))
    if not by_kind:
        return {}
    scores: dict[str, Any] = {score: sum(one[score] for one in by_kind.values()) / len(by_kind) for score in SCORES}
    if column.classes:
        scores["by_class"] = {column.classes[kind]: one for kind, one in by_kind.items()}
    return scores
