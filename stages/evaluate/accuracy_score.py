"""Train on samples, test on real images: the classification accuracy score (Ravuri and Vinyals, arXiv 1905.10887)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import CLASS
from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.core.seeds import derive_seed
from latentline.core.shards import ShardedArray
from latentline.evaluation.agreement import agreement
from latentline.feature_extractors.build import PretrainedExtractor, build_feature_extractor
from latentline.feature_extractors.load import FeatureExtractor
from latentline.feature_extractors.training import ClassifierTraining, decisions, train_classifier
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device
from latentline.training.config import saving_of

_SERIES = "classification accuracy score"
_HASHED_AT_ONCE = 1024  # images


@dataclass(frozen=True)
class Labelled:
    """Images uint8 (N, C, H, W) and their classes (N,)."""

    images: Tensor | ShardedArray
    labels: Tensor

    def sha256(self) -> str:
        """Of the images; their labels follow from the same inputs."""
        digest = hashlib.sha256()
        for part in self.images.split(_HASHED_AT_ONCE):
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def require_classes(columns: Sequence[str]) -> None:
    """Raise UserError unless samples were drawn for classes; ``columns`` are what they were drawn for."""
    if CLASS not in columns:
        raise UserError(
            "evaluate.classification_accuracy_score: true, but the samples were drawn for no class; set it to false, "
            "or train on labelled images with denoiser.condition class or all"
        )


def accuracy_on_real(
    judge: FeatureExtractor, lesson: Labelled, test: Labelled, seed: int, compute: ComputeParams
) -> float:
    """Train a new judge as the pipeline's own was trained, but on ``lesson``: the share of ``test`` that it takes for its class.

    A pretrained judge learns a new head. Weights and order begin alike for every lesson.
    """
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    column = next(column for column in judge.columns if column.name == CLASS)
    torch.manual_seed(derive_seed(seed, _SERIES, "weights"))
    network = build_feature_extractor(checkpoint.name, **{**checkpoint.constructor, "outputs": column.num_logits})
    if isinstance(network, PretrainedExtractor):
        network.load_state_dict(
            {**checkpoint.tensors, **{f"head.{name}": value for name, value in network.head.state_dict().items()}}
        )
    to_device(network, judge.device)
    lessons = checkpoint.settings["lessons"]
    saving = saving_of(
        "evaluate",
        lessons,
        {"seed": seed, "judge": checkpoint.sha256, "images": lesson.sha256()},
        compute,
        computed_by=["stages.evaluate.accuracy_score"],
        part="accuracy",
    )
    train_classifier(
        network,
        [column],
        lesson.images,
        lesson.labels[:, None].float(),
        ClassifierTraining.from_json(lessons),
        device=judge.device,
        seed=seed,
        name=_SERIES,
        saving=saving,
    )
    saving.file.finish()
    decided = decisions(network, test.images, [column], judge.device)
    return agreement(column, decided[:, 0], test.labels)
