"""Stage ``train_latent_classifiers``: one linear probe of the standardised latents per column, by scikit-learn."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentline.common.arrays import save_arrays
from latentline.common.column import CLASS, Column, decide, split_outputs
from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import derive_seed
from latentline.evaluation.agreement import agreement, agreement_floor, confusion_counts
from latentline.figures.plots import bars, confusion, notice
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.params.latent_classifiers import LatentClassifiersParams
from latentline.params.load import load
from latentline.pipeline.paths import FIGURES, LATENT_CLASSIFIERS, LATENT_STATS, LATENTS, METRICS
from latentline.runtime.compute import set_up

STAGE = "train_latent_classifiers"
_NEVER = -1e6  # output for a class without a training image

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``latent_classifiers`` and encoded_img; write checkpoints/, fig/ and metrics/ of latent_classifiers."""
    knobs, seed, compute = load("latent_classifiers", LatentClassifiersParams)
    set_up(compute.device, compute.threads)
    stats = read_stats(LATENT_STATS)
    z0, values = _read("train", stats)
    chosen = np.random.Generator(np.random.PCG64(derive_seed(seed, STAGE))).permutation(len(z0))[: knobs.train_count]
    probes = [_fit(column, z0[chosen].numpy(), known[chosen].numpy(), knobs) for column, known in zip(stats.columns, values.T, strict=True)]
    weight = torch.cat([torch.empty(0, z0.shape[1]), *(weight for weight, _ in probes)])  # (outputs, F)
    bias = torch.cat([torch.empty(0), *(bias for _, bias in probes)])  # (outputs,)
    meta = {"kind": "latent_classifiers", "columns": [column.name for column in stats.columns], "latents": sha256_file(LATENT_STATS)}
    save_arrays(LATENT_CLASSIFIERS, {"weight": weight, "bias": bias}, meta)
    with replaced_folder(FIGURES / "latent_classifiers") as folder:
        if stats.columns:
            test, known = _read("test", stats)
            _report(folder, stats.columns, test @ weight.T + bias, known)
        else:
            log.info("nothing to learn: these images have neither labels nor attributes")
            notice(folder / "notice.png", "nothing to learn: these images have neither labels nor attributes")
            write_metrics(METRICS / "latent_classifiers.json", {"columns": 0})


def _read(name: str, stats: LatentStats) -> tuple[Tensor, Tensor]:
    """Standardised flat latents (N, F) and all that is known (N, A) of a split."""
    split = read_latents(LATENTS, name)
    return stats.normalizer.standardise(split.latents).flatten(1), split.values


def _fit(column: Column, z0: NDArray[np.float32], known: NDArray[np.float32], knobs: LatentClassifiersParams) -> tuple[Tensor, Tensor]:
    """Weights (outputs, F) and bias (outputs,) whose outputs mean what ``Column`` says; weights are zeros where nothing could be learnt."""
    from sklearn.linear_model import LogisticRegression, Ridge  # after the thread count is fixed; and it takes seconds to import

    if column.kind == "continuous":
        ridge = Ridge(alpha=1 / knobs.inverse_regularization).fit(z0, (known - column.mean) / column.std)
        return torch.from_numpy(ridge.coef_)[None].float(), torch.tensor([ridge.intercept_]).float()
    kinds, present = len(column.classes) or 2, np.unique(known).astype(int)
    weight, bias = torch.zeros(kinds, z0.shape[1]), torch.full((kinds,), _NEVER)  # (kinds, F), (kinds,)
    bias[present] = 0
    if len(present) > 1:
        probe = LogisticRegression(C=knobs.inverse_regularization, max_iter=knobs.max_iterations).fit(z0, known.astype(int))
        normals, offsets = torch.from_numpy(probe.coef_).float(), torch.from_numpy(probe.intercept_).float()
        if len(present) == 2:  # of which scikit-learn fits one logit
            normals, offsets = torch.cat([-normals, normals]) / 2, torch.cat([-offsets, offsets]) / 2
        weight[present], bias[present] = normals, offsets
    return (weight, bias) if column.classes else (weight[1:] - weight[:1], bias[1:] - bias[:1])


def _report(folder: Path, columns: tuple[Column, ...], outputs: Tensor, known: Tensor) -> None:
    """Write metrics/latent_classifiers.json and the figures, from outputs (N, K) for the test split and what is known (N, A) of it."""
    decided = decide(columns, outputs)
    by_column: dict[str, dict[str, Any]] = {}
    for column, given, answers, truth in zip(columns, split_outputs(columns, outputs), decided.T, known.T, strict=True):
        if column.kind == "continuous":
            by_column[column.name] = {"r2": agreement(column, answers, truth)}
            continue
        by_column[column.name] = {
            "accuracy": agreement(column, answers, truth),
            "accuracy_of_the_commonest_class": agreement_floor(column, truth),
            **_detection(column, given, answers, truth),
        }
        if column.name == CLASS:
            confusion(folder / "confusion.png", confusion_counts(column, answers, truth).numpy(), column.classes)
    attributes = {name: scores for name, scores in by_column.items() if name != CLASS}
    metrics = by_column.get(CLASS) or _means(attributes)
    write_metrics(METRICS / "latent_classifiers.json", {**metrics, **({"by_attribute": attributes} if attributes else {})})
    shown = metrics.get("by_class", attributes)
    for score in ("f1", "r2"):
        if some := {name: scores[score] for name, scores in shown.items() if score in scores}:
            bars(folder / f"{score}.png", list(some), list(some.values()), f"{score} on test latents")


def _detection(column: Column, outputs: Tensor, decided: Tensor, known: Tensor) -> dict[str, Any]:
    """Area under the ROC curve and F1 of each class against the others: their means, and by class where there are several.

    Classes without a test image, or with nothing but such, have no area and are left out.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    kinds = range(column.outputs) if column.classes else [1]
    # Of several logits only differences mean anything, so images are ranked by the probability of a class.
    ranked = outputs.double().softmax(dim=1) if column.classes else torch.cat([-outputs, outputs], dim=1)  # (N, kinds)
    present = [kind for kind in kinds if 0 < int((known == kind).sum()) < len(known)]
    area = {kind: float(roc_auc_score(known == kind, ranked[:, kind])) for kind in present}
    f1 = {kind: float(f1_score(known == kind, decided == kind, zero_division=0.0)) for kind in present}
    if not present:
        return {}
    scores: dict[str, Any] = {"auroc": sum(area.values()) / len(present), "f1": sum(f1.values()) / len(present)}
    if column.classes:
        scores["by_class"] = {column.classes[kind]: {"auroc": area[kind], "f1": f1[kind]} for kind in present}
    return scores


def _means(by_column: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each score's mean over the columns that have it."""
    names = {name for scores in by_column.values() for name, value in scores.items() if isinstance(value, float)}
    had = {name: [scores[name] for scores in by_column.values() if name in scores] for name in names}
    return {name: sum(values) / len(values) for name, values in had.items()}
