"""Load the trained denoiser."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, sha256_file
from latentline.core.paths import DENOISER, LATENT_STATS
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import Conditioning, conditioning_on
from latentline.diffusion.process import Process, build_process
from latentline.latents.cache import LatentStats
from latentline.latents.caption_states import CaptionStates
from latentline.latents.pretrained_text import EncoderInfo
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device


@dataclass(frozen=True)
class Denoiser:
    """A network on its device, the process it was trained for, and its conditioning."""

    network: nn.Module
    process: Process
    conditioning: Conditioning
    latent_shape: tuple[int, ...]
    device: torch.device


def load_denoiser(device: torch.device, stats: LatentStats, root: Path = Path()) -> Denoiser:
    """Load the denoiser in ``root``/checkpoints/denoiser.

    Args:
        device: of the network.
        stats: of the latents in ``root``/encoded_img.
        root: folder of the run.

    Raises:
        UserError: the checkpoint is missing, damaged or of an earlier version, or was trained on other latents than
            those of encoded_img.
    """
    checkpoint = load_checkpoint(root / DENOISER, kind="denoiser", made_by="train_denoiser")
    with refusing_earlier_versions(checkpoint.path, "train_denoiser"):
        latents = checkpoint.trained_on["latents"]
    if latents != sha256_file(root / LATENT_STATS):  # stats.json holds the autoencoder's sha256 too
        raise UserError(
            f"{root / DENOISER} was trained on other latents than encoded_img holds; run `dvc repro train_denoiser`"
        )
    with refusing_earlier_versions(checkpoint.path, "train_denoiser"):
        network = build_denoiser(checkpoint.name, **checkpoint.constructor)
        process = build_process(**checkpoint.settings["process"])
        text = checkpoint.settings.get("text")
        tokenizer = None if text is None else CaptionTokenizer(text["tokenizer"], text["length"])
        encoder = None if text is None or "encoder" not in text else EncoderInfo(**text["encoder"])
        states = None if encoder is None else CaptionStates(encoder, root, device)
        conditioning = conditioning_on(checkpoint.settings["condition"], stats.schema, tokenizer, states)
    checkpoint.load_into(network)
    to_device(network.eval().requires_grad_(False), device)
    return Denoiser(network, process, conditioning, tuple(checkpoint.constructor["latent_shape"]), device)
