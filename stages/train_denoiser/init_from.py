"""Initialise the weights from another run's denoiser, or from published weights of DiT or SiT."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, sha256_bytes, sha256_file
from latentline.denoisers.load import Denoiser, load_guide, without_guide
from latentline.interop.diffusers_folder import CONFIG, read_diffusers_folder
from latentline.interop.published_dit import CONVENTIONS, from_published, published_names, published_settings
from latentline.latents.cache import LatentStats
from latentline.runtime.init_from import initial_checkpoint, require_digest, require_same
from latentline.runtime.packaged_weights import read_weights_file
from stages.train_denoiser.params import DenoiserParams

# Arguments of the constructor that are no settings.
_OF_THE_LATENTS = {"latent_shape": "shape of the latents", "cond_dim": "width of the condition"}
_FILES = {".pt", ".pth", ".safetensors"}  # endings of published weights
log = logging.getLogger(__name__)


def begin_with(
    denoiser: Denoiser,
    params: DenoiserParams,
    settings: dict[str, Any],
    constructor: dict[str, Any],
    stats: LatentStats,
) -> tuple[str, nn.Module | None]:
    """Copy the weights in ``params.init_from`` into ``denoiser``.

    They are a checkpoint of another run, or published weights of DiT or SiT. The log has a warning where another run's
    were trained on another autoencoder's latents.

    Args:
        denoiser: its network was built with ``constructor``.
        params: of this run.
        settings: of this run's checkpoint.
        constructor: of the network.
        stats: of the latents that it will train on.

    Returns:
        sha256 of the file of weights; and the guide that a checkpoint may have, but None where ``params`` train the
        velocity, since that moves the weights away from it.

    Raises:
        UserError: the path holds neither a checkpoint of a denoiser nor published weights, or not the one of
            ``params.init_from_sha256``, or one of another network, process, shape of latents or condition.
    """
    folder = Path(params.init_from)
    if folder.suffix in _FILES or (folder / CONFIG).is_file():
        return _begin_with_published(denoiser, params, constructor, folder), None
    checkpoint = initial_checkpoint("denoiser", folder, params.init_from_sha256)
    with refusing_earlier_versions(checkpoint.path, "train_denoiser"):
        found = _shaping(checkpoint.name, checkpoint.constructor, checkpoint.settings)
        autoencoder = checkpoint.trained_on["autoencoder"]
    if "flow_map" in checkpoint.settings["process"]:
        raise UserError(
            f"denoiser.init_from ({folder}) must hold a denoiser of objective flow_matching, not of flow_map; choose "
            "the one that it was distilled from"
        )
    require_same("denoiser", folder, found, _shaping(params.name, constructor, settings))
    if autoencoder != stats.autoencoder:
        log.warning("denoiser.init_from: %s was trained on the latents of another autoencoder", folder)
    if denoiser.process.flow_map is not None:
        new = {name: own for name, own in denoiser.network.state_dict().items() if "embedding.interval." in name}
        checkpoint = replace(checkpoint, tensors=new | checkpoint.tensors)  # zeros: the network starts as the teacher's
    without_guide(checkpoint).load_into(denoiser.network)
    trains_velocity = params.epochs and denoiser.process.flow_map is None
    return checkpoint.sha256, None if trains_velocity else load_guide(checkpoint, denoiser.device)


def _begin_with_published(denoiser: Denoiser, params: DenoiserParams, constructor: dict[str, Any], path: Path) -> str:
    """Copy the weights of DiT or SiT in ``path``, a file or a folder of diffusers. Returns its file's sha256."""
    if params.name != "dit":
        raise UserError(
            f"denoiser.name ({params.name}) must be dit, since denoiser.init_from ({path}) holds published weights; "
            "change one of them"
        )
    if denoiser.conditioning.tokenizer is not None:
        raise UserError(
            f"denoiser.condition ({params.condition}) must be class or none, since denoiser.init_from ({path}) holds "
            "published weights, which take no captions; change one of them"
        )
    process = denoiser.process
    if process.flow_map is not None:
        raise UserError(
            f"denoiser.objective (flow_map) must be flow_matching, since denoiser.init_from ({path}) holds published "
            "weights; train with it first, and begin flow_map with that checkpoint"
        )
    if (convention := CONVENTIONS.get((process.path.name, process.prediction))) is None:
        raise UserError(
            f"denoiser.process.path ({process.path.name}) must be vp_linear with prediction epsilon (weights of DiT) "
            f"or flow with velocity (SiT), since denoiser.init_from ({path}) holds published weights; change it"
        )
    try:
        tensors, found, digest = _read_published(path)
        require_digest("denoiser", path, digest, params.init_from_sha256)
        found |= published_settings(tensors) | {"time_scale": convention.scale}
        require_same("denoiser", path, _by_setting(found), _by_setting(constructor))
        from_published(denoiser.network, tensors, convention)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"denoiser.init_from ({path}) must hold weights of DiT or SiT ({error}); choose others"
        ) from None
    return digest


def _read_published(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Return the tensors under the authors' names, settings that a config beside them gives, and the sha256."""
    try:
        if path.suffix in _FILES:
            return read_weights_file(path), {}, sha256_file(path)
        config, tensors, digest = read_diffusers_folder(path)
    except UserError as error:
        raise UserError(f"denoiser.init_from: {error}") from None
    if config.get("_class_name") != "DiTTransformer2DModel":
        raise ValueError(f"_class_name {config.get('_class_name')} in {CONFIG} must be DiTTransformer2DModel")
    return published_names(tensors), {"heads": config.get("num_attention_heads")}, digest


def _shaping(name: str, constructor: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return all that shapes a denoiser and the meaning of its output, by the names of the settings."""
    shaping = {"denoiser.name": name, "denoiser.condition": settings["condition"]}
    process = settings["process"]
    shaping |= {f"denoiser.process.{key}": process[key] for key in ("path", "prediction")}
    tokenizer = sha256_bytes(settings["text"]["tokenizer"].encode())[:12] if "text" in settings else None
    shaping |= {"denoiser.text": None, "tokenizer of the captions": tokenizer}
    if encoder := settings.get("text", {}).get("encoder"):
        shaping |= {"text encoder of text.path": encoder["sha256"][:12]}
    return shaping | _by_setting(constructor)


def _by_setting(constructor: dict[str, Any]) -> dict[str, Any]:
    shaping = {_OF_THE_LATENTS.get(key, f"denoiser.{key}"): value for key, value in constructor.items()}
    return shaping | {"denoiser.gaussian_rank": shaping.pop("denoiser.gaussian", {"rank": 0})["rank"]}
