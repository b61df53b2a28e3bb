"""Fit the probes: everything that the checkpoint of ``train_latent_classifiers`` depends on."""

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentline.core.attributes import Attribute, most_frequent
from latentline.core.errors import UserError
from latentline.core.seeds import derive_seed
from latentline.core.shards import ShardedArray
from latentline.latents.cache import LatentSplit, LatentStats, read_latents
from latentline.latents.normalizer import Normalizer
from latentline.probes.probes import Probe, choose_probe, fit_probe, pooling
from stages.train_latent_classifiers.params import LatentClassifiersParams

_BATCH = 1000  # latents at a time
_MAX_CLASSES = 1000  # of a probe

log = logging.getLogger(__name__)


def read_subset(split: str, stats: LatentStats, count: int, seed: int) -> LatentSplit[Tensor]:
    """Read at most ``count`` latents of a split, chosen at random, with their labels; other rows are not read.

    Returns:
        Standardised latents (N, *latent_shape) and their labels.
    """
    stored = read_latents(split)
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "train_latent_classifiers")))
    rows = torch.from_numpy(random.permutation(len(stored.labels))[:count])
    return LatentSplit(stats.normalizer.standardise(stored.latents[rows]), stored.labels[rows])


def fit_probes(
    schema: Sequence[Attribute],
    train: LatentSplit[Tensor],
    val: LatentSplit[Tensor],
    params: LatentClassifiersParams,
) -> tuple[Probe, dict[str, float]]:
    """Fit one probe per attribute, on the latents whose images have a value of it.

    Args:
        schema: of the labels.
        train: standardised latents to fit on.
        val: standardised latents that choose the regularisation, where ``params`` gives none.
        params: of the stage.

    Returns:
        One probe of the flat latent for all attributes, its logits in the order of the schema. The inverse
        regularisation of each attribute, by name.

    Raises:
        UserError: validation latents are to choose the regularisation of an attribute, and none has a value of it.
    """
    projection = pooling(train.latents) if params.features == "pooled" else None  # (F, C)
    features = [
        split.latents.flatten(1) if projection is None else split.latents.flatten(1) @ projection
        for split in (train, val)
    ]
    probes, inverse_regularization = [], {}
    for attribute, *columns in zip(schema, train.labels.values.T, val.labels.values.T, strict=True):
        present = [_with_value(one, values) for one, values in zip(features, columns, strict=True)]
        fitted, chosen = (_of_frequent_classes(attribute, *split, present[0][1]) for split in present)
        if not len(fitted[1]):
            log.warning("%s: none of the %d latents to fit on has a value", attribute.name, len(columns[0]))
        if params.inverse_regularization is None:
            if not len(chosen[1]):
                raise UserError(
                    "latent_classifiers.inverse_regularization (null) must be a number, since no validation image has "
                    f"a value of {attribute.name!r}; set it, or prepare more validation images (data.splits.val)"
                )
            probe, strength = choose_probe(attribute, fitted, chosen, params.logistic, params.max_iterations)
            log.info("%s: inverse regularisation %g has the lowest loss on validation images", attribute.name, strength)
        else:
            strength = params.inverse_regularization
            probe = fit_probe(attribute, *fitted, params.logistic, strength, params.max_iterations)
        probes.append(probe if projection is None else Probe(probe.weight @ projection.T, probe.bias))
        inverse_regularization[attribute.name] = strength
    no_weight = torch.empty(0, math.prod(train.latents.shape[1:]))
    weight = torch.cat([no_weight, *(probe.weight for probe in probes)])  # (K, F)
    bias = torch.cat([torch.empty(0), *(probe.bias for probe in probes)])  # (K,)
    return Probe(weight, bias), inverse_regularization


def _with_value(features: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (N, F) and values (N,) without the rows whose value is missing."""
    missing = values.isnan()
    return (features[~missing], values[~missing]) if missing.any() else (features, values)


def _of_frequent_classes(
    attribute: Attribute, features: Tensor, values: Tensor, training: Tensor
) -> tuple[Tensor, Tensor]:
    """Return features and values without the rare ones of more than 1000 classes, which the probe never predicts.

    Time and memory of a fit grow with the number of classes.

    Args:
        attribute: of the values.
        features: (N, F).
        values: (N,); none is missing.
        training: values of the training latents, which decide what is frequent.
    """
    if len(attribute.classes) <= _MAX_CLASSES:
        return features, values
    chosen = most_frequent(training, _MAX_CLASSES)
    rows = torch.isin(values.long(), chosen)
    if not rows.any():
        return features, values
    if values is training:
        log.warning(
            "%s: the probe is fitted on the %d most frequent of %d classes, %d of %d latents, and predicts no "
            "other class",
            attribute.name,
            len(chosen),
            len(attribute.classes),
            int(rows.sum()),
            len(rows),
        )
    return features[rows], values[rows]


def predict_logits(probe: Probe, raw: Tensor | ShardedArray, normalizer: Normalizer) -> Tensor:
    """Return the logits (N, K) of raw latents (N, *latent_shape), read in batches."""
    return torch.cat([probe(normalizer.standardise(batch).flatten(1)) for batch in raw.split(_BATCH)])
