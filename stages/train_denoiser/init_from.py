"""Begin with the weights of another run's denoiser."""

import logging
from pathlib import Path
from typing import Any

from latentline.denoisers.load import Denoiser
from latentline.latents.cache import LatentStats
from latentline.runtime.init_from import initial_checkpoint, require_same
from stages.train_denoiser.params import DenoiserParams

_OF_THE_LATENTS = {
    "latent_shape": "shape of the latents",
    "cond_dim": "width of the condition",
}  # arguments that are no knobs
log = logging.getLogger(__name__)


def begin_with(
    denoiser: Denoiser,
    params: DenoiserParams,
    settings: dict[str, Any],
    constructor: dict[str, Any],
    stats: LatentStats,
) -> str:
    """Copy the weights in ``params.init_from`` into ``denoiser``; the log warns where they come from another autoencoder's latents.

    Args:
        denoiser: whose network was built with ``constructor``.
        params: of this run.
        settings: that this run's checkpoint will hold.
        constructor: of the network.
        stats: of the latents that it is to learn.

    Returns:
        sha256 of the checkpoint.

    Raises:
        UserError: no checkpoint of a denoiser, not the one that ``params.init_from_sha256`` says, or made for another network, process, shape of
            latents or condition.
    """
    folder = Path(params.init_from)
    checkpoint = initial_checkpoint("denoiser", folder, params.init_from_sha256)
    require_same(
        "denoiser",
        folder,
        _knobs(checkpoint.name, checkpoint.constructor, checkpoint.settings),
        _knobs(params.name, constructor, settings),
    )
    if checkpoint.trained_on["autoencoder"] != stats.autoencoder:
        log.warning(
            "denoiser.init_from: %s was trained on the latents of another autoencoder; it begins with what held for those",
            folder,
        )
    checkpoint.load_into(denoiser.network)
    return checkpoint.sha256


def _knobs(name: str, constructor: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All that shapes a denoiser and what it says, by names in params.yaml where it is a knob."""
    shaping = {"denoiser.name": name, "denoiser.condition": settings["condition"]}
    shaping |= {f"denoiser.process.{key}": value for key, value in settings["process"].items()}
    return shaping | {_OF_THE_LATENTS.get(key, f"denoiser.{key}"): value for key, value in constructor.items()}
