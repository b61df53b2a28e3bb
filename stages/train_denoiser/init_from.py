"""Initialise the weights from another run's denoiser."""

import logging
from pathlib import Path
from typing import Any

from latentline.core.files import refusing_earlier_versions
from latentline.denoisers.load import Denoiser
from latentline.latents.cache import LatentStats
from latentline.runtime.init_from import initial_checkpoint, require_same
from stages.train_denoiser.params import DenoiserParams

# Arguments of the constructor that are no settings.
_OF_THE_LATENTS = {"latent_shape": "shape of the latents", "cond_dim": "width of the condition"}
log = logging.getLogger(__name__)


def begin_with(
    denoiser: Denoiser,
    params: DenoiserParams,
    settings: dict[str, Any],
    constructor: dict[str, Any],
    stats: LatentStats,
) -> str:
    """Copy the weights in ``params.init_from`` into ``denoiser``.

    The log has a warning where they were trained on another autoencoder's latents.

    Args:
        denoiser: its network was built with ``constructor``.
        params: of this run.
        settings: of this run's checkpoint.
        constructor: of the network.
        stats: of the latents that it will train on.

    Returns:
        sha256 of the checkpoint.

    Raises:
        UserError: the folder holds no checkpoint of a denoiser, or not the one of ``params.init_from_sha256``, or one
            of another network, process, shape of latents or condition.
    """
    folder = Path(params.init_from)
    checkpoint = initial_checkpoint("denoiser", folder, params.init_from_sha256)
    with refusing_earlier_versions(checkpoint.path, "train_denoiser"):
        found = _shaping(checkpoint.name, checkpoint.constructor, checkpoint.settings)
        autoencoder = checkpoint.trained_on["autoencoder"]
    require_same("denoiser", folder, found, _shaping(params.name, constructor, settings))
    if autoencoder != stats.autoencoder:
        log.warning("denoiser.init_from: %s was trained on the latents of another autoencoder", folder)
    checkpoint.load_into(denoiser.network)
    return checkpoint.sha256


def _shaping(name: str, constructor: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return all that shapes a denoiser and the meaning of its output, by the names of the settings."""
    shaping = {"denoiser.name": name, "denoiser.condition": settings["condition"]}
    shaping |= {f"denoiser.process.{key}": value for key, value in settings["process"].items()}
    return shaping | {_OF_THE_LATENTS.get(key, f"denoiser.{key}"): value for key, value in constructor.items()}
