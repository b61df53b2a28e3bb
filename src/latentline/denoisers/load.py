"""Load the trained denoiser."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, sha256_file
from latentline.core.paths import DENOISER, LATENT_STATS
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import Conditioning, conditioning_on
from latentline.denoisers.guidance import Guidance
from latentline.diffusion.process import Process, build_process
from latentline.latents.cache import LatentStats
from latentline.latents.caption_states import CaptionStates
from latentline.latents.pretrained_text import EncoderInfo
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from latentline.runtime.compute import to_device

_GUIDE = "guide."  # before the names of the guide's weights


@dataclass(frozen=True)
class Denoiser:
    """A network on its device, the process it was trained for, and its conditioning."""

    network: nn.Module
    process: Process
    conditioning: Conditioning
    latent_shape: tuple[int, ...]
    device: torch.device
    guide: nn.Module | None = None
    """The network as it was early in its training, for autoguidance (Karras et al., arXiv 2406.02507)."""

    def guide_for(self, guidance: Guidance) -> nn.Module | None:
        """Return the network whose prediction ``guidance`` leads away from; None = ``network`` itself.

        At scale 0 it is ``network``, which then samples alone, without its condition.
        """
        return self.guide if guidance.early and guidance.scale else None


def with_guide(tensors: Mapping[str, Tensor], guide: nn.Module | None) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: those of the network, ``tensors``, and those of its guide, if any."""
    weights = {} if guide is None else guide.state_dict()
    return {**tensors, **{f"{_GUIDE}{name}": tensor for name, tensor in weights.items()}}


def without_guide(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint without the guide's weights."""
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(_GUIDE)}
    return replace(checkpoint, tensors=tensors)


def of_guide(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the checkpoint of the guide alone; None where there is none. A guide has no average velocities."""
    tensors = {
        name.removeprefix(_GUIDE): value for name, value in checkpoint.tensors.items() if name.startswith(_GUIDE)
    }
    constructor = {name: value for name, value in checkpoint.constructor.items() if name != "average_velocity"}
    return replace(checkpoint, tensors=tensors, constructor=constructor) if tensors else None


def load_guide(checkpoint: Checkpoint, device: torch.device) -> nn.Module | None:
    """Build the guide of a denoiser's checkpoint; None where it has none."""
    found = of_guide(checkpoint)
    if found is None:
        return None
    guide = build_denoiser(found.name, **found.constructor)
    found.load_into(guide)
    return to_device(guide.eval().requires_grad_(False), device)


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
    without_guide(checkpoint).load_into(network)
    to_device(network.eval().requires_grad_(False), device)
    shape, guide = tuple(checkpoint.constructor["latent_shape"]), load_guide(checkpoint, device)
    return Denoiser(network, process, conditioning, shape, device, guide)
