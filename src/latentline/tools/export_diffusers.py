"""Write the trained autoencoder as a folder for diffusers' ``AutoencoderKL``: ``make export-diffusers DIR=...``."""

import sys
from pathlib import Path
from typing import cast

import torch

from latentline.autoencoders.load import load_autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.core.paths import AUTOENCODER
from latentline.interop.diffusers_folder import write_diffusers_folder
from latentline.interop.diffusers_interop import diffusers_config, to_diffusers
from latentline.latents.cache import read_stats
from latentline.runtime.checkpoint import load_checkpoint


def export_diffusers(folder: Path) -> None:
    """Write ``folder`` from checkpoints/autoencoder, with the standardisation of encoded_img.

    Raises:
        UserError: the autoencoder is of a kind that diffusers does not have, or encoded_img was made by another one.
    """
    checkpoint = load_checkpoint(AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    if checkpoint.name != "vae":
        raise UserError(
            f"autoencoder.name: {checkpoint.name} has no equal in diffusers' AutoencoderKL; expected vae; change it"
        )
    config = diffusers_config(checkpoint.constructor)
    stats = read_stats()
    stats.require_autoencoder(checkpoint.sha256)
    mean, std = stats.normalizer.mean.flatten().tolist(), stats.normalizer.std.flatten().tolist()
    scaling = {"scaling_factor": 1.0, "latents_mean": mean, "latents_std": std}
    sample_size = max(checkpoint.constructor["image_shape"][1:])
    vae = cast(VAE, load_autoencoder(torch.device("cpu")).network)
    write_diffusers_folder(
        folder, {**config, **scaling, "sample_size": sample_size}, to_diffusers(vae, checkpoint.constructor)
    )


def main() -> None:
    """Command line: one folder."""
    try:
        export_diffusers(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
