"""Stage ``manipulate``: move test images along the latent classifiers' directions and let the judge say what they became."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays
from latentline.common.column import Column
from latentline.common.errors import UserError
from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import generator
from latentline.data.store import read_split
from latentline.editing.directions import move, random_directions, spread, unit
from latentline.figures.grids import save_grid
from latentline.figures.plots import curves, notice, write_table
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.params.load import load
from latentline.params.manipulate import ManipulateParams
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.judge import Judge, load_judge
from latentline.pipeline.paths import FIGURES, LATENT_CLASSIFIERS, LATENT_STATS, LATENTS, METRICS, PREPARED
from latentline.runtime.compute import set_up

STAGE = "manipulate"
_CURVES = ["strength", "flip_rate", "flip_rate_random"]  # columns of flip_rate.csv

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What images are to become: one class of a column, an attribute that is present, or a number above the mean of the training images."""

    place: int  # of the column among all
    column: Column
    kind: int  # the class, where there are classes

    def holds(self, values: Tensor) -> Tensor:
        """Values (N, A) -> which images are so already, bool (N,)."""
        known = values[:, self.place]
        if self.column.classes:
            return known == self.kind
        return known > (0.5 if self.column.kind == "binary" else self.column.mean)


@dataclass(frozen=True)
class Directions:
    """Unit directions (K, F), one per target, and the distance (K,) that counts as strength 1."""

    vectors: Tensor
    scales: Tensor


def main() -> None:
    """Read section ``manipulate``, data, latents and checkpoints; write fig/manipulate and metrics/manipulate.json."""
    knobs, seed, compute = load("manipulate", ManipulateParams)
    device = set_up(compute.device, compute.threads)
    codec, judge, stats = load_codec(device), load_judge(device), read_stats(LATENT_STATS)
    stats.require_autoencoder(codec.sha256)
    test = read_split(PREPARED, "test")
    every = [Target(place, column, kind) for place, column in enumerate(stats.columns) for kind in range(column.outputs)]
    normals = _normals()  # (outputs, F), one per target
    # Some have no image to start from; of some the probe could learn nothing.
    rows = [row for row, target in enumerate(every) if len(_others(target, test.values, 1)) and normals[row].any()]
    if not rows:
        log.info("nothing to change: these images have neither labels nor attributes that differ")
        with replaced_folder(FIGURES / "manipulate") as folder:
            write_table(folder / "flip_rate.csv", [], _CURVES)
            notice(folder / "notice.png", "nothing to change: these images have neither labels nor attributes that differ")
        write_metrics(METRICS / "manipulate.json", {"targets": 0})
        return
    if len(rows) > knobs.targets:
        log.info("editing towards %d of %d targets (manipulate.targets)", knobs.targets, len(rows))
        rows = evenly(rows, knobs.targets)
    targets, learnt = [every[row] for row in rows], _directions(stats, normals[rows])
    # The floor: random directions, moved by exactly as much.
    random = Directions(random_directions(learnt.vectors, generator(seed, STAGE, "random")), learnt.scales)

    z0 = stats.normalizer.standardise(read_latents(LATENTS, "test").latents).flatten(1)  # (N, F)
    table = []
    for strength in knobs.strengths:
        flips = [_flip_rate(strength, targets, which, z0, test.values, knobs.count, codec, judge, stats) for which in (learnt, random)]
        table.append(dict(zip(_CURVES, (strength, *flips), strict=True)))
    write_metrics(METRICS / "manipulate.json", {**{k: v for k, v in table[-1].items() if k != "strength"}, "by_strength": table})
    with replaced_folder(FIGURES / "manipulate") as folder:
        write_table(folder / "flip_rate.csv", table)
        curves(folder / "flip_rate.png", table, "strength", ["flip_rate", "flip_rate_random"], "share judged to be the target")
        for name, which in (("strips", learnt), ("strips_random", random)):
            strips = _strips(knobs, targets, which, z0, test.values, codec, stats)
            save_grid(folder / f"{name}.png", strips, columns=len(knobs.strengths), scale=2)


def evenly(rows: Sequence[int], most: int) -> list[int]:
    """``most`` of more ``rows``, evenly spaced, the first among them."""
    return [rows[index * len(rows) // most] for index in range(most)]


def _normals() -> Tensor:
    """The normals (outputs, F) of the probes' boundaries."""
    tensors, meta = load_arrays(LATENT_CLASSIFIERS, "train_latent_classifiers", kind="latent_classifiers")
    if meta.get("latents") != sha256_file(LATENT_STATS):
        raise UserError(f"{LATENT_CLASSIFIERS} was fitted on other latents than encoded_img; run `dvc repro train_latent_classifiers`")
    return tensors["weight"]


def _directions(stats: LatentStats, normals: Tensor) -> Directions:
    """Along ``normals`` (K, F), in standard deviations of the training latents."""
    latents = stats.normalizer.standardise(read_latents(LATENTS, "train").latents).flatten(1)  # (N, F)
    vectors = unit(normals)  # (K, F)
    return Directions(vectors, spread(latents, vectors))


def _others(target: Target, values: Tensor, count: int) -> Tensor:
    """Rows of the first ``count`` images that are not ``target``."""
    return target.holds(values).logical_not().nonzero()[:count, 0]


def _decode(z: Tensor, codec: TrainedCodec, stats: LatentStats) -> Tensor:
    return codec.decode(stats.normalizer.restore(z.unflatten(1, stats.shape)))


def _flip_rate(
    strength: float,
    targets: Sequence[Target],
    directions: Directions,
    z0: Tensor,
    values: Tensor,
    count: int,
    codec: TrainedCodec,
    judge: Judge,
    stats: LatentStats,
) -> float:
    """Share of other images that the judge takes for the target after the move, over all targets."""
    flipped = []
    for target, direction, scale in zip(targets, directions.vectors, directions.scales.tolist(), strict=True):
        moved = move(z0[_others(target, values, count)], direction, strength * scale)
        flipped.append(target.holds(judge.look(_decode(moved, codec, stats))[1]).float())
    return float(torch.cat(flipped).mean())


def _strips(
    knobs: ManipulateParams,
    targets: Sequence[Target],
    directions: Directions,
    z0: Tensor,
    values: Tensor,
    codec: TrainedCodec,
    stats: LatentStats,
) -> Tensor:
    """One row per target, the weakest strength (usually negative) to the strongest, of one image that is not so."""
    rows = []
    for row, target in enumerate(targets[: knobs.strips]):
        direction, scale = directions.vectors[row], float(directions.scales[row])
        start = z0[_others(target, values, row + 1)[-1:]]
        rows += [move(start, direction, strength * scale) for strength in knobs.strengths]
    return _decode(torch.cat(rows), codec, stats)
