"""Stage ``evaluate``: every score that needs the judge, each beside its floor."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays
from latentline.common.column import CLASS, all_values
from latentline.common.errors import UserError
from latentline.common.files import replaced_folder, write_metrics
from latentline.common.seeds import generator, start_noise
from latentline.data.store import read_card, read_split
from latentline.evaluation.agreement import agreement
from latentline.evaluation.distances import frechet_distance, kernel_distance
from latentline.evaluation.neighbours import nearest, neighbour_scores
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import bars
from latentline.latents.cache import read_latents, read_stats
from latentline.params.evaluate import EvaluateParams
from latentline.params.load import load
from latentline.pipeline.codec import load_codec
from latentline.pipeline.conditions import Conditions, named_conditions
from latentline.pipeline.judge import load_judge
from latentline.pipeline.paths import FIGURES, GENERATED, LATENT_STATS, LATENTS, METRICS, PREPARED
from latentline.runtime.compute import set_up

STAGE = "evaluate"
_BATCH = 1024  # images of the reference at a time
_COLUMNS = 16


def main() -> None:
    """Read section ``evaluate``, data, latents, samples and checkpoints; write fig/evaluate and metrics/evaluate.json.

    The reference of every distance is the train split. Floors: the test split (what perfect samples would score), the
    reconstructed test split (what perfect latents would score), and decoded noise (what an untrained denoiser scores).
    """
    knobs, seed, compute = load("evaluate", EvaluateParams)
    _require_neighbours(knobs.neighbours, read_card(PREPARED).counts)
    device = set_up(compute.device, compute.threads)
    codec, judge, stats = load_codec(device), load_judge(device), read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    generated, made_by = load_arrays(GENERATED / "samples-00000.safetensors", "sample")
    if made_by.get("autoencoder") != codec.sha256:
        raise UserError(f"{GENERATED} was decoded by another autoencoder than checkpoints/autoencoder holds; run `dvc repro sample`")

    train, test = read_split(PREPARED, "train"), read_split(PREPARED, "test")
    count = knobs.max_images or max(len(train), len(generated["images"]))
    noise = start_noise(seed, STAGE, torch.arange(min(len(test), len(generated["images"]), count)), stats.shape)
    images = {
        "samples": generated["images"][:count],
        "real_test": test.images[:count],
        "reconstructions": codec.decode(read_latents(LATENTS, "test").latents[:count]),
        "decoded_noise": codec.decode(stats.normalizer.restore(noise)),
    }
    reference = torch.cat([judge.look(train.images[start : min(start + _BATCH, count)])[0] for start in range(0, min(len(train), count), _BATCH)])
    seen = {name: judge.look(part) for name, part in images.items()}
    fd = {name: frechet_distance(features, reference) for name, (features, _) in seen.items()}

    # What follows compares pairs of images, so it looks at a part of each set.
    chosen = torch.randperm(len(reference), generator=generator(seed, STAGE, "reference"))[: knobs.pair_count]
    few = {name: features[: knobs.pair_count] for name, (features, _) in seen.items()}
    kd = {name: kernel_distance(features, reference[chosen]) for name, features in few.items()}
    close = {name: asdict(neighbour_scores(few[name], reference[chosen], knobs.neighbours)) for name in ("samples", "real_test")}
    distances = {name: nearest(few[name], reference) for name in ("samples", "real_test")}
    metrics: dict[str, Any] = {
        "judge": judge.name,
        "count": len(images["samples"]),
        "fd": fd["samples"],
        "fd_reconstruction": fd["reconstructions"],
        "fd_floor_real_test": fd["real_test"],
        "fd_of_decoded_noise": fd["decoded_noise"],
        "kd": kd["samples"],
        "kd_floor_real_test": kd["real_test"],
        "nearest_train_distance": float(distances["samples"][0].mean()),
        "nearest_train_distance_of_real_test": float(distances["real_test"][0].mean()),
    }
    for score, value in close["samples"].items():
        metrics |= {score: value, f"{score}_of_real_test": close["real_test"][score]}
    known = {"samples": all_values(len(generated["images"]), generated.get("labels"), generated.get("attributes"))[:count]}
    known["real_test"] = test.values[:count]
    conditions = named_conditions(made_by["condition"], judge.columns)
    metrics |= _agreement(conditions, {name: values for name, (_, values) in seen.items()}, known)
    write_metrics(METRICS / "evaluate.json", metrics)
    _figures(fd, generated["images"], train.images[distances["samples"][1][:_COLUMNS]])


def _require_neighbours(neighbours: int, counts: dict[str, int]) -> None:
    """Raise UserError unless each of the images of train and of test has so many others; the knobs are checked with all of params.yaml."""
    split = min(("train", "test"), key=counts.__getitem__)
    if neighbours >= counts[split]:
        raise UserError(
            f"evaluate.neighbours: {neighbours}, but split {split} holds {counts[split]} images; expected fewer neighbours than images; "
            f"lower it, or prepare more images (data.limit, data.splits)"
        )


def _agreement(conditions: Conditions, decided: dict[str, Tensor], known: dict[str, Tensor]) -> dict[str, Any]:
    """How often the judge sees in the samples what they were drawn for, beside how often it does so in real images."""
    metrics: dict[str, Any] = {}
    for index, (place, column) in enumerate(zip(conditions.places, conditions.columns, strict=True)):
        ours = agreement(column, decided["samples"][:, place], known["samples"][:, index])
        real = agreement(column, decided["real_test"][:, place], known["real_test"][:, place])
        if column.name == CLASS:
            metrics |= {"class_accuracy": ours, "class_accuracy_of_real_test": real}
        else:
            metrics.setdefault("by_attribute", {})[column.name] = {"samples": ours, "real_test": real}
    return metrics


def _figures(fd: dict[str, float], samples: Tensor, neighbours: Tensor) -> None:
    with replaced_folder(FIGURES / "evaluate") as folder:
        compared = ["real_test", "reconstructions", "samples"]
        bars(folder / "fd.png", compared, [fd[name] for name in compared], "Frechet distance to train")
        count = len(neighbours)
        save_grid(folder / "nearest_train.png", alternating_rows([samples[:count], neighbours], count), columns=count, scale=2)
