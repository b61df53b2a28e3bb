"""Begin with the weights of another run's autoencoder, or of a pretrained diffusers ``AutoencoderKL``."""

from pathlib import Path
from typing import Any, cast

from latentline.autoencoders.base import Codec
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.interop.diffusers_folder import CONFIG, WEIGHTS, read_diffusers_folder
from latentline.interop.diffusers_interop import KNOBS, diffusers_config, from_diffusers
from latentline.runtime.init_from import initial_checkpoint, require_digest, require_same
from stages.train_autoencoder.params import LOSSES, AutoencoderParams

_ADDED_LATER = {"mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True}  # absent from older files


def begin_with(codec: Codec, knobs: AutoencoderParams, constructor: dict[str, Any]) -> str:
    """Copy the weights in ``knobs.init_from`` into ``codec``, which was built with ``constructor``.

    Returns:
        sha256 of the weights' file.

    Raises:
        UserError: the folder is neither another run's checkpoint nor a diffusers model, or of another architecture or digest than the knobs say.
    """
    folder = Path(knobs.init_from)
    if not (folder / CONFIG).is_file():
        checkpoint = initial_checkpoint("autoencoder", folder, knobs.init_from_sha256)
        require_same("autoencoder", folder, _knobs(checkpoint.name, checkpoint.constructor), _knobs(knobs.name, constructor))
        checkpoint.load_into(codec)
        return checkpoint.sha256
    if not isinstance(codec, VAE):
        raise UserError(f"autoencoder.init_from: {folder} holds a model of diffusers, autoencoder.name is {knobs.name}; expected vae; change one")
    return load_pretrained(codec, constructor, folder, knobs.init_from_sha256)


def load_pretrained(codec: Codec, constructor: dict[str, Any], folder: Path, sha256: str | None = None) -> str:
    """Copy the weights of the diffusers model in ``folder`` into ``codec``, a VAE built with ``constructor``.

    Returns:
        sha256 of the weights' file.

    Raises:
        UserError: the folder is no such model, of another architecture than the knobs say, or the weights' file does not have ``sha256``.
    """
    config, tensors, digest = read_diffusers_folder(folder)
    require_digest("autoencoder", folder / WEIGHTS, digest, sha256)
    for entry, expected in diffusers_config(constructor).items():
        found = config.get(entry, _ADDED_LATER.get(entry))
        if found != expected:
            remedy = f"make {KNOBS[entry]} fit" if entry in KNOBS else "choose another folder"
            raise UserError(f"autoencoder.init_from: {folder}/config.json has {entry} {found}, the knobs say {expected}; {remedy}")
    try:
        from_diffusers(cast(VAE, codec), constructor, tensors)
    except ValueError as error:
        raise UserError(f"autoencoder.init_from: the weights in {folder} do not fit its own config.json ({error}); download it again") from None
    return digest


def _knobs(name: str, constructor: dict[str, Any]) -> dict[str, Any]:
    """The knobs that shape a codec's weights, by their names in params.yaml."""
    own = {key: value for key, value in constructor.items() if key not in ("image_shape", "inner", *LOSSES)}
    section = "autoencoder.diffae" if name == "diffae" else "autoencoder"
    shaping = {"autoencoder.name": name, "data.image_size or data.channels": constructor["image_shape"]}
    shaping |= {f"{section}.{key}": value for key, value in own.items()}
    if inner := dict(constructor.get("inner", {})):
        shaping["autoencoder.diffae.inner"] = inner.pop("name")
        shaping |= {f"autoencoder.{key}": value for key, value in inner.items() if key not in LOSSES}
    return shaping
