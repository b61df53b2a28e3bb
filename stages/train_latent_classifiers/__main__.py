"""Stage ``train_latent_classifiers``: one linear probe of the standardised latents per column, by scikit-learn."""

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentline.core.arrays import save_arrays
from latentline.core.attributes import Attribute
from latentline.core.files import sha256_file
from latentline.core.labels import schema_to_json
from latentline.core.load_params import load
from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_STATS
from latentline.core.seeds import derive_seed
from latentline.core.stage import run_stage
from latentline.latents.cache import LatentStats, read_latents, read_stats
from latentline.probes.probes import Probe, choose_probe, fit_probe, pooling
from latentline.runtime.compute import set_up
from stages.train_latent_classifiers.params import LatentClassifiersParams
from stages.train_latent_classifiers.report import report

STAGE = "train_latent_classifiers"

Known = tuple[Tensor, Tensor]
"""Latents (N, *shape) and what is known (N, A) of their images."""

_BATCH = 1000  # test latents at a time

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``latent_classifiers`` and encoded_img; write checkpoints/, fig/ and metrics/ of latent_classifiers."""
    params, seed, compute = load("latent_classifiers", LatentClassifiersParams)
    set_up(compute.device, compute.threads)
    stats = read_stats()
    train, val = (_some(name, stats, params.train_count, seed) for name in ("train", "val"))
    probes, strengths = _fit(stats.schema, train, val, params)
    weight = torch.cat([torch.empty(0, math.prod(stats.shape)), *(probe.weight for probe in probes)])  # (outputs, F)
    bias = torch.cat([torch.empty(0), *(probe.bias for probe in probes)])  # (outputs,)
    save_arrays(
        LATENT_CLASSIFIERS,
        {"weight": weight, "bias": bias},
        {
            "kind": "latent_classifiers",
            "schema": schema_to_json(stats.schema),
            "latents": sha256_file(LATENT_STATS),
            "logistic": params.logistic,
        },
    )
    probe, test = Probe(weight, bias), read_latents("test")
    outputs = torch.cat(
        [probe(stats.normalizer.standardise(part).flatten(1)) for part in test.latents.split(_BATCH)]
    )  # (N, outputs)
    report(stats.schema, outputs, test.labels.values, params.logistic, strengths)


def _some(name: str, stats: LatentStats, most: int, seed: int) -> Known:
    """Standardised latents (N, *shape) and all that is known (N, A) of at most ``most`` images of a split; no others are read."""
    split = read_latents(name)
    chosen = torch.from_numpy(
        np.random.Generator(np.random.PCG64(derive_seed(seed, STAGE))).permutation(len(split.labels.values))[:most]
    )
    return stats.normalizer.standardise(split.latents[chosen]), split.labels.values[chosen]


def _fit(
    columns: Sequence[Attribute], train: Known, val: Known, params: LatentClassifiersParams
) -> tuple[list[Probe], dict[str, float]]:
    """Probes of the flat latent, one per column, and the inverse regularisation of each, by name."""
    projection = pooling(train[0]) if params.features == "pooled" else None  # (F, C)
    features = [z0.flatten(1) if projection is None else z0.flatten(1) @ projection for z0, _ in (train, val)]
    probes, strengths = [], {}
    for column, known, held_out in zip(columns, train[1].T, val[1].T, strict=True):
        if params.inverse_regularization is None:
            fit_on, choose_on = (features[0], known), (features[1], held_out)
            probe, strength = choose_probe(column, fit_on, choose_on, params.logistic, params.max_iterations)
            log.info("%s: inverse regularisation %g has the least loss on validation images", column.name, strength)
        else:
            strength = params.inverse_regularization
            probe = fit_probe(column, features[0], known, params.logistic, strength, params.max_iterations)
        probes.append(probe if projection is None else Probe(probe.weight @ projection.T, probe.bias))
        strengths[column.name] = strength
    return probes, strengths


if __name__ == "__main__":
    run_stage("train_latent_classifiers", main)
