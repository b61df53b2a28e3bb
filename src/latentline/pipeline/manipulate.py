"""Stage ``manipulate``: move test images along the latent classifiers' directions and let the judge say what they became."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays
from latentline.common.errors import UserError
from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import generator
from latentline.data.store import read_split
from latentline.editing.directions import move, random_directions, spread, unit
from latentline.figures.grids import save_grid
from latentline.figures.plots import curves, write_table
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.params.load import load
from latentline.params.manipulate import ManipulateParams
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.judge import Judge, load_judge
from latentline.pipeline.paths import FIGURES, LATENT_CLASSIFIERS, LATENT_STATS, LATENTS, METRICS, PREPARED
from latentline.runtime.compute import set_up

STAGE = "manipulate"


@dataclass(frozen=True)
class Directions:
    """Unit directions (K, F), one per class, and the distance (K,) that counts as strength 1."""

    vectors: Tensor
    scales: Tensor


def main() -> None:
    """Read section ``manipulate``, data, latents and checkpoints; write fig/manipulate and metrics/manipulate.json."""
    knobs, seed, compute = load("manipulate", ManipulateParams)
    device = set_up(compute.device, compute.threads)
    codec, judge, stats = load_codec(device), load_judge(device), read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    learnt = _directions(stats)
    # The floor: random directions, moved by exactly as much.
    random = Directions(random_directions(learnt.vectors, generator(seed, STAGE, "random")), learnt.scales)

    test = read_split(PREPARED, "test")
    z0 = stats.normalizer.standardise(read_latents(LATENTS, "test").latents).flatten(1)  # (N, F)
    rows = []
    for strength in knobs.strengths:
        flips = [_flip_rate(strength, which, z0, test.class_labels, knobs.count, codec, judge, stats) for which in (learnt, random)]
        rows.append({"strength": strength, "flip_rate": flips[0], "flip_rate_random": flips[1]})
    write_metrics(METRICS / "manipulate.json", {**{k: v for k, v in rows[-1].items() if k != "strength"}, "by_strength": rows})
    with replaced_folder(FIGURES / "manipulate") as folder:
        write_table(folder / "flip_rate.csv", rows)
        curves(folder / "flip_rate.png", rows, "strength", ["flip_rate", "flip_rate_random"], "share judged the target class")
        for name, which in (("strips", learnt), ("strips_random", random)):
            strips = _strips(knobs, which, z0, test.class_labels, codec, stats)
            save_grid(folder / f"{name}.png", strips, columns=len(knobs.strengths), scale=2)


def _directions(stats: LatentStats) -> Directions:
    tensors, meta = load_arrays(LATENT_CLASSIFIERS, "train_latent_classifiers")
    if meta.get("latents") != sha256_file(LATENT_STATS):
        raise UserError(f"{LATENT_CLASSIFIERS} was fitted on other latents than encoded_img; run `dvc repro train_latent_classifiers`")
    latents = stats.normalizer.standardise(read_latents(LATENTS, "train").latents).flatten(1)  # (N, F)
    vectors = unit(tensors["weight"])  # (K, F): the normals of the classifiers' boundaries
    return Directions(vectors, spread(latents, vectors))


def _others(labels: Tensor, target: int, count: int) -> Tensor:
    """Rows of the first ``count`` images of other classes than ``target``."""
    return (labels != target).nonzero()[:count, 0]


def _decode(z: Tensor, codec: TrainedCodec, stats: LatentStats) -> Tensor:
    return codec.decode(stats.normalizer.restore(z.unflatten(1, stats.shape)))


def _flip_rate(
    strength: float, directions: Directions, z0: Tensor, labels: Tensor, count: int, codec: TrainedCodec, judge: Judge, stats: LatentStats
) -> float:
    """Share of images of other classes that the judge calls the target class after the move, over all targets."""
    flipped = []
    for target, (direction, scale) in enumerate(zip(directions.vectors, directions.scales.tolist(), strict=True)):
        moved = move(z0[_others(labels, target, count)], direction, strength * scale)
        flipped.append((judge.look(_decode(moved, codec, stats))[1] == target).float())
    return float(torch.cat(flipped).mean())


def _strips(knobs: ManipulateParams, directions: Directions, z0: Tensor, labels: Tensor, codec: TrainedCodec, stats: LatentStats) -> Tensor:
    """One row per target class, the weakest strength (usually negative) to the strongest, of one image of another class."""
    rows = []
    for target, (direction, scale) in list(enumerate(zip(directions.vectors, directions.scales.tolist(), strict=True)))[: knobs.strips]:
        start = z0[_others(labels, target, target + 1)[-1:]]
        rows += [move(start, direction, strength * scale) for strength in knobs.strengths]
    return _decode(torch.cat(rows), codec, stats)
