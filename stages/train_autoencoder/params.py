"""Section ``autoencoder``: the first stage, pixels <-> latents."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from latentline.core.params import (
    NO_WEIGHTS,
    Blocks,
    Count,
    Fraction,
    NonNegative,
    Positive,
    Section,
    Sha256,
    Widths,
    require_weights_to_check,
)
from latentline.training.params import OptimizerParams
from stages.train_autoencoder.adversarial_params import AdversarialParams
from stages.train_autoencoder.diffae_params import DiffAEParams

_ERROR = ("reconstruction",)
_KL = ("kl_weight", "kl_warmup_steps")
LOSSES = _ERROR + _KL
"""Settings of the losses, which shape no weights."""
_CODER = (
    "network",
    "latent_channels",
    "latent_dim",
    "encoder_channels",
    "encoder_blocks",
    "decoder_channels",
    "decoder_blocks",
    "groups",
    "attention_levels",
    "middle_attention",
    "attention_heads",
    "causal_attention",
)
_CONSTRUCTORS = {"identity": (), "ae": _ERROR + _CODER, "vae": _ERROR + _KL + _CODER}
"""Settings that shape each kind of autoencoder, alone or inside a ``diffae``. All others are valid too but have no
effect."""


class AutoencoderFiguresParams(Section):
    """Grids in fig/autoencoder."""

    height: Annotated[int, Field(ge=2)] = 8
    """Upper limit of the rows of images; originals above their reconstructions count as two."""
    width: Positive = 16
    """Upper limit of the images per row."""
    scale: Positive = 2
    """Enlargement: each pixel is drawn as scale x scale pixels."""
    preview_every_epochs: Count = 0
    """Draw reconstructions of validation images every so many epochs; 0 = never."""


class AutoencoderParams(Section):
    """Settings of stage ``train_autoencoder``."""

    name: Literal["identity", "ae", "vae", "diffae"] = "vae"
    """identity (pixels, no training) | ae (plain) | vae (KL-regularised) | diffae (vectors; decodes by diffusion).
    Settings that a kind does not use have no effect."""
    epochs: Count = 2
    """Passes over the training images; 0 only with init_from. Another number trains from scratch."""
    network: Literal["conv", "stable_diffusion"] = "conv"
    """conv (fast: folds pixels into channels, halves the map at each level) | stable_diffusion (begins at full size,
    halves the map after each level but the last)."""
    latent_channels: Positive = 6
    """Channels of the latent map."""
    latent_dim: Positive | None = None
    """Length of a latent vector, computed from the latent map; null = the map is the latent."""
    encoder_channels: Widths = Field(default=[32, 64])
    """Width of each level of the encoder, from the image down."""
    encoder_blocks: list[Blocks] = Field(default=[1, 1])
    """Residual blocks of each level of the encoder."""
    decoder_channels: Widths = Field(default=[32, 64])
    """Width of each level of the decoder, in the encoder's order."""
    decoder_blocks: list[Blocks] = Field(default=[2, 2])
    """Residual blocks of each level of the decoder."""
    groups: Positive = 8
    """Normalisation groups; a divisor of every width."""
    attention_levels: list[Count] = Field(default=[])
    """Levels (0 = next to the image) with self-attention after each residual block."""
    middle_attention: bool = False
    """Self-attention on the smallest map."""
    attention_heads: Positive = 1
    """Heads of every self-attention."""
    causal_attention: bool = False
    """true = each position attends only to itself and to positions before it, row by row."""
    reconstruction: Literal["l1", "l2"] = "l2"
    """l1 (mean absolute error) | l2 (mean squared error)."""
    kl_weight: NonNegative = 3e-3
    """Weight of the KL divergence, in nats per image value, beside the reconstruction error; vae only."""
    kl_warmup_steps: Count = 0
    """Steps over which that weight rises linearly from 0; vae only."""
    perceptual_weight: NonNegative = 0.0
    """Weight of the perceptual distance (LPIPS, needs the package stlpips-pytorch); 0 = off."""
    report_lpips: bool = False
    """Add the perceptual distance to the metrics without training on it (needs the same package)."""
    adversarial: AdversarialParams = AdversarialParams()
    """A discriminator of image patches, trained against the autoencoder; see docs/adversarial.md."""
    diffae: DiffAEParams = DiffAEParams()
    """Shape of a diffae, whose inner autoencoder, if any, has the shape given above; see docs/diffae.md."""
    init_from: Annotated[str, Field(min_length=1)] = NO_WEIGHTS
    """Folder of initial weights: checkpoints/autoencoder of another run, or a diffusers AutoencoderKL (vae with network
    stable_diffusion only); data/no_weights = random weights."""
    init_from_sha256: Sha256 | None = None
    """Expected sha256 of the weights' file in that folder; null = any."""
    freeze_encoder: bool = False
    """Train the decoder alone; needs init_from."""
    ema_decay: Fraction | None = None
    """Decay per step of averaged weights (EMA), which the checkpoint stores; null = the last weights."""
    figures: AutoencoderFiguresParams = AutoencoderFiguresParams()
    optimizer: OptimizerParams = OptimizerParams()

    def constructor(self) -> dict[str, Any]:
        """Return the arguments of the autoencoder ``name``, without the image's shape."""
        if self.name == "diffae":
            inner = {"name": self.diffae.inner, **self._settings_of(self.diffae.inner)}
            return {"inner": inner, **self.diffae.constructor()}
        return self._settings_of(self.name)

    @property
    def makes_vectors(self) -> bool:
        """True for latents that are vectors (D,), False for maps (C, H, W)."""
        return self.name == "diffae" or (self.name != "identity" and self.latent_dim is not None)

    def _settings_of(self, name: str) -> dict[str, Any]:
        return self.model_dump(include=set(_CONSTRUCTORS[name]))

    @model_validator(mode="after")
    def _levels_match(self) -> "AutoencoderParams":
        levels = len(self.encoder_channels)
        for setting in ("encoder_blocks", "decoder_channels", "decoder_blocks"):
            if len(getattr(self, setting)) != levels:
                raise ValueError(
                    f"autoencoder.{setting} ({getattr(self, setting)}) must be a list of {levels} numbers, as "
                    "autoencoder.encoder_channels is; give all four lists of levels the same length"
                )
        if bad := [level for level in self.attention_levels if level >= levels]:
            raise ValueError(
                f"autoencoder.attention_levels ({self.attention_levels}) must be numbers from 0 to {levels - 1}, "
                f"the levels of autoencoder.encoder_channels; take {bad[0]} out"
            )
        for setting in ("encoder_blocks", "decoder_blocks"):
            if bare := [level for level in self.attention_levels if getattr(self, setting)[level] == 0]:
                raise ValueError(
                    f"autoencoder.attention_levels ({self.attention_levels}) must be levels with a residual block, and "
                    f"level {bare[0]} of autoencoder.{setting} has none; take {bare[0]} out, or give that level a block"
                )
        return self

    @model_validator(mode="after")
    def _widths_divide(self) -> "AutoencoderParams":
        for setting in ("encoder_channels", "decoder_channels"):
            for width in getattr(self, setting):
                for divisor in ("groups", "attention_heads"):
                    if width % getattr(self, divisor):
                        raise ValueError(
                            f"autoencoder.{divisor} ({getattr(self, divisor)}) must be a divisor of every width, "
                            f"also of {width} in autoencoder.{setting}; lower it"
                        )
        return self

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "AutoencoderParams":
        require_weights_to_check("autoencoder", self.init_from, self.init_from_sha256)
        if self.name == "identity" or self.init_from != NO_WEIGHTS:
            return self
        if self.epochs == 0:
            raise ValueError(
                f"autoencoder.epochs (0) must be at least 1 without initial weights for the {self.name}; "
                "raise it, or set autoencoder.init_from to a folder of weights"
            )
        if self.freeze_encoder:
            raise ValueError(
                "autoencoder.freeze_encoder (true) must be false without initial weights, since the encoder would stay "
                "random; set it to false, or autoencoder.init_from to a folder of weights"
            )
        return self

    @model_validator(mode="after")
    def _diffusion_decodes_alone(self) -> "AutoencoderParams":
        if self.name != "diffae":
            return self
        for setting, weight in (
            ("perceptual_weight", self.perceptual_weight),
            ("adversarial.weight", self.adversarial.weight),
        ):
            if weight:
                raise ValueError(
                    f"autoencoder.{setting} ({weight:g}) must be 0 for a diffae, which makes no reconstructions while "
                    "it trains; set it to 0, or autoencoder.name to ae or vae"
                )
        if self.diffae.inner != "identity" and self.latent_dim is not None:
            raise ValueError(
                f"autoencoder.latent_dim ({self.latent_dim}) must be null for "
                f"autoencoder.diffae.inner {self.diffae.inner}, since its decoder works on maps; set it to null"
            )
        return self
