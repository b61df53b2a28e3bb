"""Scores of the samples beside those of the references: distances between features, agreement of predicted labels."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentline.core.attributes import CLASS, Attribute
from latentline.core.labels import LabelTable
from latentline.core.seeds import generator
from latentline.evaluation.agreement import NO_VALUE, agreement
from stages.evaluate.distances import Gaussian, fit_gaussian, frechet_distance, kernel_distance, mean_kernel
from stages.evaluate.features import STAGE
from stages.evaluate.neighbours import NeighbourScores, nearest, neighbour_scores, radii
from stages.evaluate.params import EvaluateParams

_COMPARED = ("samples", "real_test")
_FD = {
    "samples": "fd",
    "reconstructions": "fd_reconstruction",
    "real_test": "fd_real_test",
    "decoded_noise": "fd_of_decoded_noise",
}
_KD = {"samples": "kd", "real_test": "kd_real_test"}
_NEIGHBOUR_SCORES = ("precision", "recall", "density", "coverage")
R = TypeVar("R")


class Reasons:
    """Why scores are not computed, by their names."""

    def __init__(self) -> None:
        self.by_score: dict[str, str] = {}

    def unless_fewer(
        self, least: int, scores: Sequence[str], compute: Callable[[Tensor], R], *sets: Tensor
    ) -> R | None:
        """Return ``compute`` of the first set, or None with the reason where a set has fewer than ``least`` images."""
        count = min(map(len, sets))
        if count >= least:
            return compute(sets[0])
        self.by_score |= dict.fromkeys(scores, f"needs at least {least} images in each set, not {count}")
        return None


class _Reference:
    """The training images that sets are compared with; what depends on them alone is computed once, at first use.

    Args:
        features: (N, D) of all images.
        part: (M, D) of those for scores of pairs.
        k: number of the neighbour that radii reach to.
        device: where it is computed.
    """

    def __init__(self, features: Tensor, part: Tensor, k: int, device: torch.device) -> None:
        self.part = part
        self._features, self._k, self._device = features, k, device

    def frechet_distance(self, images: Tensor) -> float:
        return frechet_distance(fit_gaussian(images, self._device), self._gaussian)

    def kernel_distance(self, images: Tensor) -> float:
        return kernel_distance(images, self.part, device=self._device, within_reference=self._mean_kernel)

    def neighbour_scores(self, images: Tensor) -> NeighbourScores:
        return neighbour_scores(images, self.part, self._k, self._device, self._radii)

    @cached_property
    def _gaussian(self) -> Gaussian:
        return fit_gaussian(self._features, self._device)

    @cached_property
    def _mean_kernel(self) -> float:
        return mean_kernel(self.part, self.part, device=self._device)

    @cached_property
    def _radii(self) -> Tensor:
        return radii(self.part, self._k, self._device)


def distance_scores(
    params: EvaluateParams, seed: int, features: dict[str, Tensor], device: torch.device
) -> tuple[dict[str, Any], Tensor]:
    """Compare each set of features with those of the training images, whose statistics are computed once.

    Args:
        params: section ``evaluate``.
        seed: of the choice of training images for scores of pairs.
        features: (N, D) of each set by its name, see ``features.image_sets``.
        device: where distances are computed.

    Returns:
        The metrics, null where a set has too few images, for the reasons in ``not_computed``. The index of the nearest
        training image (M,) of the first M <= ``pair_count`` samples.
    """
    train, reasons, k = features["train"], Reasons(), params.neighbours
    # Scores of pairs of images take a part of each set.
    chosen = torch.randperm(len(train), generator=generator(seed, STAGE, "reference"))[: params.pair_count]
    few = {name: features[name][: params.pair_count] for name in _COMPARED}
    reference = _Reference(train, train[chosen], k, device)
    fd = {
        name: reasons.unless_fewer(2, [key], reference.frechet_distance, features[name], train)
        for name, key in _FD.items()
    }
    kd, by_neighbours = {}, {}
    for name, part in few.items():
        sets, of_test = (part, reference.part), "" if name == "samples" else f"_of_{name}"
        kd[name] = reasons.unless_fewer(2, [_KD[name]], reference.kernel_distance, *sets)
        names = [f"{score}{of_test}" for score in _NEIGHBOUR_SCORES]
        found = reasons.unless_fewer(k + 1, names, reference.neighbour_scores, *sets)
        by_neighbours[name] = dict.fromkeys(_NEIGHBOUR_SCORES) if found is None else asdict(found)
    (to_train, neighbours), (real_to_train, _) = (nearest(few[name], train, device=device) for name in _COMPARED)
    distance, real_distance = float(to_train.mean()), float(real_to_train.mean())
    metrics: dict[str, Any] = {
        "fd": fd["samples"],
        "fd_reconstruction": fd["reconstructions"],
        "fd_real_test": fd["real_test"],
        "fd_floor_real_test": fd["real_test"],  # for readers of earlier versions, as kd_floor_real_test
        "fd_of_decoded_noise": fd["decoded_noise"],
        "kd": kd["samples"],
        "kd_real_test": kd["real_test"],
        "kd_floor_real_test": kd["real_test"],
        "nearest_train_distance": distance,
        "nearest_train_distance_of_real_test": real_distance,
        "nearest_train_distance_ratio": distance / real_distance if real_distance else None,
    }
    for score, value in by_neighbours["samples"].items():
        metrics |= {score: value, f"{score}_of_real_test": by_neighbours["real_test"][score]}
    if reasons.by_score:
        metrics["not_computed"] = reasons.by_score
    return metrics, neighbours


def fid_scores(distances: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return ``fd`` and its reference under the literature's name; the features are those of Inception.

    FID compares all samples with all training images (Heusel et al., arXiv 1706.08500).

    Args:
        distances: of :func:`distance_scores`.
        whole: False where ``evaluate.max_images`` left images out; then there is no FID, for the reason in
            ``not_computed``.
    """
    if whole:
        return {"fid": distances["fd"], "fid_real_test": distances["fd_real_test"]}
    reasons = {"fid": "needs all training images and samples; set evaluate.max_images to null"}
    return {"fid": None, "not_computed": {**distances.get("not_computed", {}), **reasons}}


def agreement_scores(
    columns: Sequence[Attribute], predicted: dict[str, Tensor], labels: dict[str, LabelTable]
) -> dict[str, Any]:
    """Return how well predicted labels agree with the samples' conditions, and with the labels of real images.

    Args:
        columns: attributes that the feature extractor predicts.
        predicted: labels (N, A) of ``samples``, ``real_test`` and ``reconstructions``.
        labels: their conditions or labels; samples may have only some of the ``columns``.

    Missing values are left out. A score without any value is None, and ``not_computed`` beside it has the reason.
    """
    metrics: dict[str, Any] = {}
    for index, column in enumerate(columns):
        if column.name not in labels["samples"].names:
            continue
        scores: dict[str, Any] = {
            name: agreement(column, predicted[name][:, index], labels[name].column(column.name)) for name in labels
        }
        if column.name == CLASS:
            of_real = {f"class_accuracy_of_{name}": score for name, score in scores.items() if name != "samples"}
            metrics |= {"class_accuracy": scores["samples"], **of_real}
        else:
            if reasons := {name: NO_VALUE for name, score in scores.items() if score is None}:
                scores["not_computed"] = reasons
            metrics.setdefault("by_attribute", {})[column.name] = scores
    return metrics
