"""Stage ``train_feature_extractor``: train the judge, or take a pretrained one where there is nothing to learn."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentline.core.attributes import CLASS, Attribute, num_logits
from latentline.core.files import replaced_folder, write_metrics
from latentline.core.labels import schema_to_json
from latentline.core.load_params import load
from latentline.core.paths import FEATURE_EXTRACTOR, FIGURES, METRICS, PREPARED
from latentline.core.seeds import derive_seed
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from latentline.evaluation.agreement import agreement, confusion_counts, constant_agreement
from latentline.feature_extractors.build import PretrainedExtractor, build_feature_extractor
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.training import ClassifierTraining, decisions, train_classifier
from latentline.figures.plots import confusion, curves, notice, write_table
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import set_up, to_device
from latentline.runtime.memory import require_trainable
from latentline.runtime.packaged_weights import EFFICIENTNET_LITE0, read_packaged_weights
from latentline.runtime.parallel import Ranks, init_distributed
from latentline.training.config import resident, saving_of
from latentline.training.loop import Saving
from stages.train_feature_extractor.params import FeatureExtractorParams

STAGE = "train_feature_extractor"

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``feature_extractor`` and data/prepared; write checkpoints/, fig/ and metrics/ of feature_extractor."""
    params, seed, compute = load("feature_extractor", FeatureExtractorParams)
    device, ranks = init_distributed(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    card = read_card(PREPARED)
    values = read_split(PREPARED, "train").labels.values  # (N, A)
    differ = bool((values != values[:1]).any())  # a single class, for example, teaches a classifier nothing
    name = params.name if params.name != "auto" else "classifier" if differ else "efficientnet_lite0"
    constructor: dict[str, Any] = {"outputs": num_logits(card.schema)}
    if name == "classifier":
        constructor |= {"shape": list(card.shape), **params.model_dump(include={"channels", "features", "dropout"})}
    shaping = params.model_dump(include={"channels", "features"})
    require_trainable(lambda: build_feature_extractor(name, **constructor), device, "feature_extractor", shaping)
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = build_feature_extractor(name, **constructor)
    if isinstance(network, PretrainedExtractor):
        network.network.load_published(read_packaged_weights(EFFICIENTNET_LITE0, f"feature_extractor.name: {name}"))
    to_device(network, device)
    saving = saving_of(
        STAGE,
        params.model_dump(exclude={"epochs"}),
        {"seed": seed, "data": card.sha256},
        compute,
        computed_by=[f"stages.{STAGE}.__main__"],
    )
    lessons = ClassifierTraining(params.epochs, params.label_smoothing, params.optimizer)
    history = _train(network, card.schema, lessons, device, seed, saving, ranks) if card.schema else []
    ranks.exit_non_main()
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name=name,
        constructor=constructor,
        trained_on=card.sha256,
        tensors=network.state_dict(),
        settings={"schema": schema_to_json(card.schema), "lessons": lessons.to_json()},
    )
    with replaced_folder(FIGURES / "feature_extractor") as folder:
        if not card.schema:
            log.info(
                "nothing to learn: these images have neither labels nor attributes; the judge is %s as it was pretrained",
                name,
            )
            write_table(folder / "loss.csv", [], ["epoch", "loss", "val_agreement"])
            notice(folder / "notice.png", "nothing to learn: these images have neither labels nor attributes")
            write_metrics(METRICS / "feature_extractor.json", {"judge": name})
        else:
            _report(folder, name, network, card.schema, history, device)
    saving.file.finish()


def _train(
    network: ConvClassifier | PretrainedExtractor,
    columns: Sequence[Attribute],
    lessons: ClassifierTraining,
    device: torch.device,
    seed: int,
    saving: Saving,
    ranks: Ranks,
) -> list[dict[str, float]]:
    train, val = read_split(PREPARED, "train"), read_split(PREPARED, "val")

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        decided = decisions(network, val.images, columns, device)
        scores = [
            agreement(column, *pair)
            for column, pair in zip(columns, zip(decided.T, val.labels.values.T, strict=True), strict=True)
        ]
        return {"val_agreement": sum(scores) / len(scores)}

    images = (
        train.images if isinstance(network, PretrainedExtractor) else resident(train.images, device)
    )  # that one sees them only once
    return train_classifier(
        network,
        columns,
        images,
        train.labels.values,
        lessons,
        device=device,
        seed=seed,
        name=STAGE,
        saving=saving,
        on_epoch=validate,
        ranks=ranks,
    )


def _report(
    folder: Path,
    name: str,
    network: ConvClassifier | PretrainedExtractor,
    columns: Sequence[Attribute],
    history: list[dict[str, float]],
    device: torch.device,
) -> None:
    """Write metrics/feature_extractor.json and the figures, from the test split."""
    test = read_split(PREPARED, "test")
    decided = decisions(network, test.images, columns, device)
    scores, floors = {}, {}
    for column, answers, truth in zip(columns, decided.T, test.labels.values.T, strict=True):
        scores[column.name], floors[column.name] = agreement(column, answers, truth), constant_agreement(column, truth)
    metrics: dict[str, Any] = {"judge": name, "by_column": scores, "by_column_of_the_best_constant": floors}
    if any(column.kind != "continuous" for column in columns):
        decisive = [CLASS] if CLASS in scores else [column.name for column in columns if column.kind != "continuous"]
        metrics["accuracy"] = sum(scores[column] for column in decisive) / len(decisive)
        metrics["accuracy_of_the_commonest_class"] = sum(floors[column] for column in decisive) / len(decisive)
    write_metrics(METRICS / "feature_extractor.json", metrics)
    write_table(folder / "loss.csv", history)
    curves(folder / "loss.png", history, "epoch", ["loss", "val_agreement"], "loss, agreement")
    for column, answers, truth in zip(columns, decided.T, test.labels.values.T, strict=True):
        if column.name == CLASS:
            confusion(folder / "confusion.png", confusion_counts(column, answers, truth).numpy(), column.classes)


if __name__ == "__main__":
    run_stage("train_feature_extractor", main)
