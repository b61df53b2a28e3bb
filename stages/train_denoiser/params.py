"""Section ``denoiser``: the diffusion model of the latents."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from latentline.core.params import (
    NO_WEIGHTS,
    Count,
    Depth,
    Fraction,
    Positive,
    Section,
    Sha256,
    Steps,
    Width,
    Widths,
    require_weights_to_check,
)
from latentline.training.params import OptimizerParams

_CONSTRUCTORS = {
    "unet": {"channels", "blocks", "attention_levels", "patch_size"},
    "dit": {"width", "depth", "heads", "patch_size"},
    "mlp": {"width", "depth"},
}
"""Knobs that shape a network, by kind. All are valid for each, so that changing the name alone works; the others do nothing."""


class ProcessParams(Section):
    """The noise path and what the network predicts."""

    path: Literal["flow", "vp_linear", "vp_cosine"]
    """Noise path: rectified flow, or variance-preserving with linear beta or cosine alpha."""
    prediction: Literal["velocity", "v", "epsilon", "x0"]
    """What the network predicts."""
    time_sampling: Literal["uniform", "logit_normal"]
    """How training draws t."""
    loss_weighting: Literal["uniform", "min_snr"]
    """What the squared error is multiplied by at each t."""


class PreviewParams(Section):
    """Sample grids drawn while training."""

    every_epochs: Count
    """Draw one grid after every so many epochs; 0 = never."""
    height: Positive
    """Rows of images in a grid at most: one per class, where there are classes."""
    width: Positive
    """Images per row."""
    scale: Positive
    """Each pixel becomes ``scale`` x ``scale``."""
    steps: Steps
    """Steps of a preview (DPM-Solver++, one evaluation each)."""
    guidance_scale: Annotated[float, Field(ge=0)]
    """Guidance of a preview; 1 = off."""


class DenoiserParams(Section):
    """Knobs of stage ``train_denoiser``."""

    name: Literal["unet", "dit", "mlp"]
    """Kind of network: ``unet`` and ``dit`` for latent maps, ``mlp`` for latent vectors."""
    epochs: Count
    """Passes over the cached latents; 0 only with ``init_from``."""
    channels: Widths
    """Width of each level, from the latent's own size down; each further level halves the map. ``unet`` only."""
    blocks: Depth
    """Residual blocks per level, on the way down; one more on the way up. ``unet`` only."""
    attention_levels: list[Count]
    """Levels (0 = the latent's own size) with self-attention. ``unet`` only."""
    width: Width
    """Channels of every layer. ``dit`` and ``mlp`` only."""
    depth: Depth
    """Blocks of ``dit``, hidden layers of ``mlp``."""
    heads: Positive
    """Attention heads. ``dit`` only."""
    patch_size: Positive
    """Positions per side of the squares that are folded into channels at once: a token of ``dit``, a position of ``unet``."""
    condition: Literal["all", "class", "none"]
    """What the network is told of an image: all that is known (class and attributes), the class alone, or nothing."""
    label_dropout: Fraction
    """Share of training examples of which nothing is told, for classifier-free guidance."""
    ema_decays: Annotated[list[Fraction], Field(min_length=1)]
    """Decay per step of averaged weights, after warm-up. Of several averages sampling uses the one with the lowest validation loss at the end;
    loss curves and previews are the first one's."""
    init_from: Annotated[str, Field(min_length=1)]
    """Folder of weights to begin with: checkpoints/denoiser of another run. :data:`NO_WEIGHTS` = random ones."""
    init_from_sha256: Sha256 | None
    """What the weights' file must have; null = whatever is there."""
    process: ProcessParams
    preview: PreviewParams
    optimizer: OptimizerParams

    def constructor(self) -> dict[str, Any]:
        """The arguments of the network ``name``, but for the latent's shape and the condition's width."""
        return self.model_dump(include=_CONSTRUCTORS[self.name])

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "DenoiserParams":
        require_weights_to_check("denoiser", self.init_from, self.init_from_sha256)
        if self.epochs == 0 and self.init_from == NO_WEIGHTS:
            raise ValueError(f"denoiser.epochs: 0 leaves the {self.name} untrained; expected at least 1, or a folder in denoiser.init_from; set one")
        return self

    @model_validator(mode="after")
    def _decays_differ(self) -> "DenoiserParams":
        if len(set(self.ema_decays)) < len(self.ema_decays):
            raise ValueError(f"denoiser.ema_decays: {self.ema_decays} names a decay twice; expected each once; take one of them out")
        return self

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "DenoiserParams":
        if self.name == "dit" and self.width % self.heads:
            raise ValueError(f"denoiser.width: {self.width} does not go into denoiser.heads, {self.heads}; expected a multiple of them; change one")
        return self
