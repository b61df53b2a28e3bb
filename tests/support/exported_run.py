"""An untrained run to export, and what samples from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from latentline.autoencoders.build import build_autoencoder
from latentline.core.arrays import save_arrays
from latentline.core.attributes import cond_dim
from latentline.core.files import sha256_file
from latentline.core.labels import schema_to_json
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_CLASSIFIERS, LATENT_STATS
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.load import with_guide
from latentline.denoisers.moment_matching import MomentMaps
from latentline.runtime.checkpoint import load_checkpoint, save_checkpoint
from latentline.samplers.moment_file import SavedMoments, save_moments
from latentline.samplers.settings import SamplingSettings
from stages.sample.params import SampleParams
from support.small_networks import AUTOENCODERS, DENOISERS, IMAGE, awake
from support.untrained_run import SCHEMA, write_latents

VELOCITY = {"path": "flow", "prediction": "velocity"}
V = {"path": "vp_cosine", "prediction": "v"}
ALL = ("label", "wide", "level")
GAUSSIAN = {"classes": 3, "rank": 4, **VELOCITY}


def write_run(
    denoiser: str,
    autoencoder: str,
    process: Mapping[str, Any],
    condition: Sequence[str] = ALL,
    *,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    text: Mapping[str, Any] | None = None,
) -> None:
    """Write an untrained run to the current folder, in which all inputs and the guide matter.

    Args:
        denoiser: kind of the network.
        autoencoder: one of ``AUTOENCODERS``.
        process: of the denoiser.
        condition: attributes that it is conditioned on.
        changes: other arguments of the networks, by ``autoencoder`` and ``denoiser``.
        text: what the denoiser's checkpoint says about captions; None = there are none.
    """
    changed: dict[str, Mapping[str, Any]] = {"autoencoder": {}, "denoiser": {}, **(changes or {})}
    name, constructor = autoencoder.partition(" ")[0], {**AUTOENCODERS[autoencoder], **changed["autoencoder"]}
    network = awake(build_autoencoder(name, image_shape=IMAGE, **constructor))
    save_checkpoint(
        AUTOENCODER,
        kind="autoencoder",
        name=name,
        constructor={"image_shape": list(IMAGE), **constructor},
        trained_on={},
        tensors=network.state_dict(),
    )
    write_latents(Path(), torch.randn(50, *network.latent_shape) * 3 + 5)
    length = cond_dim(tuple(attribute for attribute in SCHEMA if attribute.name in condition))
    constructor = {**DENOISERS[denoiser], "latent_shape": list(network.latent_shape), "cond_dim": length}
    constructor |= changed["denoiser"]
    of_velocity = {name: value for name, value in constructor.items() if name != "average_velocity"}
    trained, guide = (awake(build_denoiser(denoiser, **arguments)) for arguments in (constructor, of_velocity))
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=denoiser,
        constructor=constructor,
        trained_on={"latents": sha256_file(LATENT_STATS)},
        tensors=with_guide(trained.state_dict(), guide),
        settings={"condition": list(condition), "process": process, **({} if text is None else {"text": text})},
    )


def write_moments(classes: int, **settings: object) -> MomentMaps:
    """Write random maps for samples of the run in the current folder, drawn with ``settings``; return them."""
    denoiser = load_checkpoint(DENOISER, kind="denoiser", made_by="")
    maps = MomentMaps(denoiser.constructor["latent_shape"], classes, 2)
    for name, buffer in maps.named_buffers():
        buffer.normal_(std=0.2).add_(name == "rest")
    save_moments(SavedMoments(maps, SamplingSettings.of(SampleParams(**settings))))
    return maps


def write_latent_classifiers(latent_size: int) -> None:
    """Write random latent classifiers of the labels to the current folder."""
    logits = sum(attribute.num_logits for attribute in SCHEMA)
    meta = {
        "kind": "latent_classifiers",
        "schema": schema_to_json(SCHEMA),
        "latents": sha256_file(LATENT_STATS),
        "logistic": "multinomial",
    }
    save_arrays(LATENT_CLASSIFIERS, {"weight": torch.randn(logits, latent_size), "bias": torch.zeros(logits)}, meta)
