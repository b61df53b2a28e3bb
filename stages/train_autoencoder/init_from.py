"""Start from the weights of another run's autoencoder, or of a pretrained diffusers ``AutoencoderKL``."""

from pathlib import Path
from typing import Any, cast

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.interop.diffusers_folder import CONFIG, WEIGHTS, read_diffusers_folder
from latentline.interop.diffusers_interop import SETTINGS, diffusers_config, from_diffusers
from latentline.runtime.init_from import initial_checkpoint, require_digest, require_same
from stages.train_autoencoder.params import LOSSES, AutoencoderParams

# Entries that older files lack, with what was then the only way
_ADDED_LATER = {"mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True}


def begin_with(autoencoder: Autoencoder, params: AutoencoderParams, constructor: dict[str, Any]) -> str:
    """Copy the weights in ``params.init_from`` into ``autoencoder``, which was built with ``constructor``.

    Returns:
        sha256 of the weights' file.

    Raises:
        UserError: the folder holds neither another run's checkpoint nor a diffusers model, or one of another
            architecture or digest than the settings have.
    """
    folder = Path(params.init_from)
    if not (folder / CONFIG).is_file():
        checkpoint = initial_checkpoint("autoencoder", folder, params.init_from_sha256)
        found, wanted = _settings(checkpoint.name, checkpoint.constructor), _settings(params.name, constructor)
        require_same("autoencoder", folder, found, wanted)
        checkpoint.load_into(autoencoder)
        return checkpoint.sha256
    if not isinstance(autoencoder, VAE):
        raise UserError(
            f"autoencoder.name ({params.name}) must be vae, since autoencoder.init_from ({folder}) holds a model of "
            "diffusers; change one of them"
        )
    return load_pretrained(autoencoder, constructor, folder, params.init_from_sha256)


def load_pretrained(
    autoencoder: Autoencoder, constructor: dict[str, Any], folder: Path, sha256: str | None = None
) -> str:
    """Copy the weights of the diffusers model in ``folder`` into ``autoencoder``, a VAE built with ``constructor``.

    Returns:
        sha256 of the weights' file.

    Raises:
        UserError: the folder is no such model, of another architecture than the settings have, or the weights' file
            does not have ``sha256``.
    """
    config, tensors, digest = read_diffusers_folder(folder)
    require_digest("autoencoder", folder / WEIGHTS, digest, sha256)
    for entry, expected in diffusers_config(constructor).items():
        found = config.get(entry, _ADDED_LATER.get(entry))
        if found != expected:
            remedy = f"change {SETTINGS[entry]}" if entry in SETTINGS else "choose another folder"
            raise UserError(
                f"autoencoder.init_from: {entry} {found} in {folder}/{CONFIG} must be {expected}, as the settings "
                f"have it; {remedy}"
            )
    try:
        from_diffusers(cast(VAE, autoencoder), constructor, tensors)
    except ValueError as error:
        raise UserError(
            f"autoencoder.init_from: the weights in {folder} do not fit its own {CONFIG} ({error}); download it again"
        ) from None
    return digest


def _settings(name: str, constructor: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that shape an autoencoder's weights, by their names in params.yaml."""
    own = {key: value for key, value in constructor.items() if key not in ("image_shape", "inner", *LOSSES)}
    section = "autoencoder.diffae" if name == "diffae" else "autoencoder"
    shaping = {"autoencoder.name": name, "data.image_size or data.channels": constructor["image_shape"]}
    shaping |= {f"{section}.{key}": value for key, value in own.items()}
    if inner := dict(constructor.get("inner", {})):
        shaping["autoencoder.diffae.inner"] = inner.pop("name")
        shaping |= {f"autoencoder.{key}": value for key, value in inner.items() if key not in LOSSES}
    return shaping
