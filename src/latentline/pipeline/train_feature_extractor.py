"""Stage ``train_feature_extractor``: train the judge."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.common.files import replaced_folder, write_metrics
from latentline.common.seeds import derive_seed
from latentline.data.batches import EpochSampler
from latentline.data.store import ImageSplit, read_card, read_split, to_unit_range
from latentline.figures.plots import confusion, curves, write_table
from latentline.models.classifier import ConvClassifier
from latentline.params.feature_extractor import FeatureExtractorParams
from latentline.params.load import load
from latentline.pipeline.paths import FEATURE_EXTRACTOR, FIGURES, METRICS, PREPARED
from latentline.pipeline.training import optimizer_of, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import place, set_up
from latentline.training.loop import fit

STAGE = "train_feature_extractor"
_BATCH = 500


def main() -> None:
    """Read section ``feature_extractor`` and data/prepared; write checkpoints/, fig/ and metrics/ of feature_extractor."""
    knobs, seed, compute = load("feature_extractor", FeatureExtractorParams)
    device = set_up(compute.device, compute.threads)
    card = read_card(PREPARED)
    constructor = {
        "shape": list(card.shape),
        "classes": len(card.classes),
        **knobs.model_dump(include={"channels", "features", "dropout"}),
    }
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = ConvClassifier(**constructor)
    place(network, device)
    train, val, test = (read_split(PREPARED, name) for name in ("train", "val", "test"))
    images, labels = train.images.load().to(device), train.class_labels.to(device)
    order = EpochSampler(len(labels), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(derive_seed(seed, STAGE, "dropout", step))
        rows = order.rows(step).to(device)
        logits = network(to_unit_range(images[rows]).contiguous(memory_format=torch.channels_last))
        value = F.cross_entropy(logits, labels[rows], label_smoothing=knobs.label_smoothing)
        return value, {"loss": value}

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        return {"val_accuracy": _accuracy(_confusion(network, val, device))}

    saving = saving_of(STAGE, knobs.model_dump(), {"seed": seed, "data": card.sha256}, compute.save_every_seconds)
    _, history = fit(
        network,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        on_epoch=validate,
        section="feature_extractor",
    )
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name=knobs.name,
        constructor=constructor,
        trained_on=card.sha256,
        tensors=network.state_dict(),
    )
    counts = _confusion(network, test, device)
    commonest = float(counts.sum(dim=1).max() / counts.sum())
    write_metrics(METRICS / "feature_extractor.json", {"accuracy": _accuracy(counts), "accuracy_of_the_commonest_class": commonest})
    with replaced_folder(FIGURES / "feature_extractor") as folder:
        write_table(folder / "loss.csv", history)
        curves(folder / "loss.png", history, "epoch", ["loss", "val_accuracy"], "cross-entropy, accuracy")
        confusion(folder / "confusion.png", counts.numpy(), card.classes)
    saving.file.remove()


@torch.no_grad()
def _confusion(network: nn.Module, split: ImageSplit, device: torch.device) -> Tensor:
    """Counts (true, predicted), each class's row first."""
    network.eval()
    predicted = torch.cat([network(images.to(device)).argmax(dim=1).cpu() for images, _ in split.batches(_BATCH)])
    classes = int(max(predicted.max(), split.class_labels.max())) + 1
    return torch.bincount(split.class_labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _accuracy(counts: Tensor) -> float:
    return float(counts.trace() / counts.sum())
