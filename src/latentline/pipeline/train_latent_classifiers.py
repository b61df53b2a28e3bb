"""Stage ``train_latent_classifiers``: linear probes of the standardised latents, by scikit-learn."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentline.common.arrays import save_arrays
from latentline.common.errors import UserError
from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import derive_seed
from latentline.figures.plots import bars, confusion
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.params.latent_classifiers import LatentClassifiersParams
from latentline.params.load import load
from latentline.pipeline.paths import FIGURES, LATENT_CLASSIFIERS, LATENT_STATS, LATENTS, METRICS
from latentline.runtime.compute import set_up

STAGE = "train_latent_classifiers"


def main() -> None:
    """Read section ``latent_classifiers`` and encoded_img; write checkpoints/, fig/ and metrics/ of latent_classifiers."""
    knobs, seed, compute = load("latent_classifiers", LatentClassifiersParams)
    set_up(compute.device, compute.threads)
    from sklearn.linear_model import LogisticRegression  # after the thread count is fixed; and it takes seconds to import
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

    stats = read_stats(LATENT_STATS)
    features, labels = _read("train", stats)
    chosen = np.random.Generator(np.random.PCG64(derive_seed(seed, STAGE))).permutation(len(labels))[: knobs.train_count]
    test_features, test_labels = (part.numpy() for part in _read("test", stats))
    _require_every_class({"train": labels[chosen].numpy(), "test": test_labels}, stats.classes)
    probe = LogisticRegression(C=knobs.inverse_regularization, max_iter=knobs.max_iterations)
    probe.fit(features[chosen].numpy(), labels[chosen].numpy())

    probability = probe.predict_proba(test_features)
    predicted = probe.predict(test_features)
    save_arrays(
        LATENT_CLASSIFIERS,
        {"weight": torch.from_numpy(probe.coef_).float(), "bias": torch.from_numpy(probe.intercept_).float()},
        {"kind": "latent_classifiers", "classes": list(stats.classes), "latents": sha256_file(LATENT_STATS)},
    )
    names = [stats.classes[label] for label in probe.classes_]
    per_class = f1_score(test_labels, predicted, average=None, labels=probe.classes_)
    auroc = roc_auc_score(np.eye(len(names))[test_labels], probability, average=None)
    write_metrics(
        METRICS / "latent_classifiers.json",
        {
            "accuracy": float(accuracy_score(test_labels, predicted)),
            "accuracy_of_the_commonest_class": float(np.bincount(test_labels).max() / len(test_labels)),
            "auroc": float(auroc.mean()),
            "f1": float(per_class.mean()),
            "by_class": {name: {"f1": float(f1), "auroc": float(area)} for name, f1, area in zip(names, per_class, auroc, strict=True)},
        },
    )
    with replaced_folder(FIGURES / "latent_classifiers") as folder:
        confusion(folder / "confusion.png", confusion_matrix(test_labels, predicted, labels=probe.classes_), names)
        bars(folder / "f1.png", names, per_class.tolist(), "F1 on test latents")


def _require_every_class(labels: dict[str, NDArray[np.int64]], classes: tuple[str, ...]) -> None:
    """Raise UserError when a class has no latent to learn from, or none to be scored on."""
    for split, present in labels.items():
        if missing := sorted(set(range(len(classes))) - set(present.tolist())):
            raise UserError(
                f"data.limit or latent_classifiers.train_count: the {split} split has no image of class {classes[missing[0]]}; "
                "expected at least one of each class; raise them or set data.limit to null"
            )


def _read(name: str, stats: LatentStats) -> tuple[Tensor, Tensor]:
    """Standardised flat latents (N, C * H * W) and labels (N,) of a split."""
    split = read_latents(LATENTS, name)
    return stats.normalizer.standardise(split.latents).flatten(1), split.labels
