"""Stage ``evaluate``: every score that needs the judge, each beside its floor."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.load import load_autoencoder
from latentline.core.attributes import CLASS, Attribute
from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.files import digests, replaced_folder, write_metrics
from latentline.core.labels import LabelTable
from latentline.core.load_params import load
from latentline.core.paths import (
    AUTOENCODER,
    FEATURE_EXTRACTOR,
    FIGURES,
    GENERATED,
    LATENT_STATS,
    METRICS,
    PREPARED,
)
from latentline.core.seeds import generator, start_noise
from latentline.core.stage import run_stage
from latentline.core.timing import record_timing
from latentline.data.samples import read_samples
from latentline.data.store import ImageSplit, read_card, read_split
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.evaluation.agreement import agreement
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import bars, confusion
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import init_distributed
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from stages.evaluate.accuracy_score import Labelled, accuracy_on_real, require_classes
from stages.evaluate.diffusion_classifier import bayes_scores, require_class
from stages.evaluate.distances import frechet_distance, kernel_distance
from stages.evaluate.features import Series, look_at
from stages.evaluate.neighbours import nearest, neighbour_scores
from stages.evaluate.params import EvaluateParams

STAGE = "evaluate"
_COLUMNS = 16
_READ = (AUTOENCODER, FEATURE_EXTRACTOR, LATENT_STATS, PREPARED / "card.json")


def main() -> None:
    """Read section ``evaluate``, data, latents, samples and checkpoints; write fig/evaluate and metrics/evaluate.json.

    The reference of every distance is the train split. Floors: the test split (what perfect samples would score), the
    reconstructed test split (what perfect latents would score), and decoded noise (what an untrained denoiser scores).
    """
    params, seed, compute = load("evaluate", EvaluateParams)
    _require_neighbours(params.neighbours, read_card(PREPARED).counts)
    device, ranks = init_distributed(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    autoencoder, judge, stats = load_autoencoder(device), load_feature_extractor(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    generated = read_samples(GENERATED, autoencoder.sha256)
    if params.classification_accuracy_score:
        require_classes(generated.labels.names)
    denoiser = _told_the_class(device, stats) if params.bayes.count else None

    train, test = read_split(PREPARED, "train"), read_split(PREPARED, "test")
    count = params.max_images or max(len(train), len(generated))
    noise = start_noise(seed, STAGE, torch.arange(min(len(test), len(generated), count)), stats.shape)
    latents = read_latents("test").latents[:count]
    samples, real = generated.images.first(count), test.images.first(count)
    reference = train.images.first(count)
    series = {
        "train": Series(len(reference), reference.__getitem__),
        "samples": Series(len(samples), samples.__getitem__),
        "real_test": Series(len(real), real.__getitem__),
        "reconstructions": Series(len(latents), lambda rows: autoencoder.decode(latents[rows], first=rows.start)),
        "decoded_noise": Series(
            len(noise), lambda rows: autoencoder.decode(stats.normalizer.restore(noise[rows]), first=rows.start)
        ),
    }
    state = ResumeFile(
        STAGE,
        {"count": count, "seed": seed, "inputs": digests([*_READ, *sorted(GENERATED.glob("*.safetensors"))])},
        [f"stages.{STAGE}.__main__"],
    )
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        seen = look_at(series, judge, chunks)
    metrics: dict[str, Any] = {"judge": judge.name, "count": len(samples)}
    distances, neighbours = _distances(params, seed, {name: features for name, (features, _) in seen.items()})
    metrics |= distances
    known = {"samples": generated.labels[:count], "real_test": test.labels[:count]}
    metrics |= _agreement(judge.columns, {name: values for name, (_, values) in seen.items()}, known)
    if params.classification_accuracy_score:
        lesson = Labelled(samples, known["samples"].values[:, 0])
        metrics |= _accuracy_scores(
            judge, lesson, train, Labelled(real, known["real_test"].values[:, 0]), seed, compute
        )
    confused = None
    if denoiser:
        z0, judged = stats.normalizer.standardise(latents), seen["real_test"][1][:, 0]
        metrics["bayes"], confused = bayes_scores(
            params.bayes, seed, denoiser, z0, known["real_test"], _shares(train, stats.classes), judged
        )
    write_metrics(METRICS / "evaluate.json", metrics)
    with replaced_folder(FIGURES / "evaluate") as folder:
        _figures(folder, metrics, generated.images[:_COLUMNS], train.images[neighbours[:_COLUMNS]])
        if confused is not None:
            confusion(folder / "bayes_confusion.png", confused, stats.classes)
    state.finish()


def _require_neighbours(neighbours: int, counts: dict[str, int]) -> None:
    """Raise UserError unless each of the images of train and of test has so many others; the knobs are checked with all of params.yaml."""
    split = min(("train", "test"), key=counts.__getitem__)
    if neighbours >= counts[split]:
        raise UserError(
            f"evaluate.neighbours: {neighbours}, but split {split} holds {counts[split]} images; expected fewer neighbours than images; "
            f"lower it, or prepare more images (data.limit, data.splits)"
        )


def _told_the_class(device: torch.device, stats: LatentStats) -> Denoiser:
    denoiser = load_denoiser(device, stats)
    require_class(denoiser)
    return denoiser


def _distances(params: EvaluateParams, seed: int, features: dict[str, Tensor]) -> tuple[dict[str, Any], Tensor]:
    """Scores of series of features (N, D) against the training images', and the training image nearest to each of the first samples."""
    reference = features["train"]
    fd = {name: frechet_distance(part, reference) for name, part in features.items() if name != "train"}
    # What follows compares pairs of images, so it looks at a part of each set.
    chosen = torch.randperm(len(reference), generator=generator(seed, STAGE, "reference"))[: params.pair_count]
    few = {name: features[name][: params.pair_count] for name in ("samples", "real_test")}
    kd = {name: kernel_distance(part, reference[chosen]) for name, part in few.items()}
    close = {name: asdict(neighbour_scores(part, reference[chosen], params.neighbours)) for name, part in few.items()}
    (far, neighbours), (far_of_real, _) = (nearest(few[name], reference) for name in ("samples", "real_test"))
    distance, floor = float(far.mean()), float(far_of_real.mean())
    metrics = {
        "fd": fd["samples"],
        "fd_reconstruction": fd["reconstructions"],
        "fd_floor_real_test": fd["real_test"],
        "fd_of_decoded_noise": fd["decoded_noise"],
        "kd": kd["samples"],
        "kd_floor_real_test": kd["real_test"],
        "nearest_train_distance": distance,
        "nearest_train_distance_of_real_test": floor,
        "nearest_train_distance_ratio": distance / floor if floor else None,
    }
    for score, value in close["samples"].items():
        metrics |= {score: value, f"{score}_of_real_test": close["real_test"][score]}
    return metrics, neighbours


def _shares(train: ImageSplit, classes: Sequence[str]) -> Tensor:
    """Of each class among the training images: (K,)."""
    return torch.bincount(train.labels.values[:, 0].long(), minlength=len(classes)) / len(train)


def _accuracy_scores(
    judge: FeatureExtractor, samples: Labelled, train: ImageSplit, test: Labelled, seed: int, compute: ComputeParams
) -> dict[str, float]:
    """Accuracy on real test images of judges that learnt from samples, and from as many training images at most."""
    started = time.monotonic()
    rows = torch.randperm(len(train), generator=generator(seed, STAGE, "lesson"))[: len(samples.labels)]
    lessons = {"classification_accuracy_score": samples}
    lessons["classification_accuracy_score_of_real_train"] = Labelled(train.images[rows], train.labels.values[rows, 0])
    scores = {name: accuracy_on_real(judge, lesson, test, seed, compute) for name, lesson in lessons.items()}
    record_timing(STAGE, classification_accuracy_score_seconds=time.monotonic() - started)
    return scores


def _agreement(
    columns: Sequence[Attribute], predicted: dict[str, Tensor], labels: dict[str, LabelTable]
) -> dict[str, Any]:
    """How often the judge sees in the samples what they were drawn for, beside how often it does so in real images."""
    metrics: dict[str, Any] = {}
    for index, attribute in enumerate(columns):
        if attribute.name not in labels["samples"].names:
            continue
        scores = {
            name: agreement(attribute, predicted[name][:, index], labels[name].column(attribute.name))
            for name in ("samples", "real_test")
        }
        if attribute.name == CLASS:
            metrics |= {"class_accuracy": scores["samples"], "class_accuracy_of_real_test": scores["real_test"]}
        else:
            metrics.setdefault("by_attribute", {})[attribute.name] = scores
    return metrics


def _figures(folder: Path, metrics: dict[str, Any], samples: Tensor, neighbours: Tensor) -> None:
    compared = {"real_test": "fd_floor_real_test", "reconstructions": "fd_reconstruction", "samples": "fd"}
    bars(folder / "fd.png", list(compared), [metrics[name] for name in compared.values()], "Frechet distance to train")
    count = len(neighbours)
    save_grid(
        folder / "nearest_train.png", alternating_rows([samples[:count], neighbours], count), columns=count, scale=2
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
