"""Begin with the weights of a pretrained diffusers ``AutoencoderKL``."""

from pathlib import Path
from typing import Any, cast

from latentline.codecs.base import Codec
from latentline.codecs.exchange import KNOBS, diffusers_config, from_diffusers
from latentline.codecs.vae import VAE
from latentline.common.errors import UserError
from latentline.runtime.diffusers_folder import read_diffusers_folder

_ADDED_LATER = {"mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True}  # absent from older files


def load_pretrained(codec: Codec, constructor: dict[str, Any], folder: Path) -> str:
    """Copy the weights in ``folder`` into ``codec``, a VAE built with ``constructor``.

    Returns:
        sha256 of the weights' file.

    Raises:
        UserError: the folder is no such model, or of another architecture than the knobs say.
    """
    config, tensors, digest = read_diffusers_folder(folder)
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
