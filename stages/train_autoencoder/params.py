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
"""Knobs of a codec that shape no weights."""
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
"""Knobs that shape a codec, by kind, whether it works alone or inside a ``diffae``. All are valid for each; those of others do nothing."""


class AutoencoderFiguresParams(Section):
    """Grids in fig/autoencoder."""

    height: Annotated[int, Field(ge=2)]
    """Rows of images at most; where originals stand above their reconstructions, both are counted."""
    width: Positive
    """Images per row at most."""
    scale: Positive
    """Each pixel becomes ``scale`` x ``scale``."""
    preview_every_epochs: Count
    """Draw reconstructions of validation images after every so many epochs; 0 = never."""


class AutoencoderParams(Section):
    """Knobs of stage ``train_autoencoder``."""

    name: Literal["identity", "ae", "vae", "diffae"]
    """Kind of autoencoder."""
    epochs: Count
    """Passes over the training images; 0 only with ``init_from``. ``identity`` trains nothing."""
    network: Literal["conv", "stable_diffusion"]
    """``conv`` folds pixels into channels and is fast; ``stable_diffusion`` begins at full size."""
    latent_channels: Positive
    """Channels of the latent map."""
    latent_dim: Positive | None
    """Length of a latent vector; null = the latent is a map."""
    encoder_channels: Widths
    """Width of each level of the encoder, from the image down; each level halves the map (``stable_diffusion``: each but the last)."""
    encoder_blocks: list[Blocks]
    """Residual blocks of each level of the encoder."""
    decoder_channels: Widths
    """Width of each level of the decoder, in the encoder's order."""
    decoder_blocks: list[Blocks]
    """Residual blocks of each level of the decoder."""
    groups: Positive
    """Normalisation groups; a divisor of every width."""
    attention_levels: list[Count]
    """Levels (0 = next to the image) with self-attention after each residual block."""
    middle_attention: bool
    """Self-attention on the smallest map."""
    attention_heads: Positive
    """Heads of every self-attention."""
    causal_attention: bool
    """Whether a position sees only itself and those before it."""
    reconstruction: Literal["l1", "l2"]
    """Mean absolute or mean squared error."""
    kl_weight: NonNegative
    """Weight of the KL term (nats per image value) beside the reconstruction error. ``vae`` only."""
    kl_warmup_steps: Count
    """Steps over which that weight rises linearly from 0. ``vae`` only."""
    perceptual_weight: NonNegative
    """Weight of the perceptual distance between image and reconstruction; 0 = off."""
    report_lpips: bool
    """Whether the perceptual distance of reconstructions is among the metrics, too, where it does not train."""
    adversarial: AdversarialParams
    diffae: DiffAEParams
    init_from: Annotated[str, Field(min_length=1)]
    """Folder of weights to begin with: checkpoints/autoencoder of another run, or a diffusers ``AutoencoderKL`` (``vae`` with network
    ``stable_diffusion`` only). :data:`NO_WEIGHTS` = random ones."""
    init_from_sha256: Sha256 | None
    """What the weights' file must have; null = whatever is there."""
    freeze_encoder: bool
    """Train the decoder alone; needs ``init_from``."""
    ema_decay: Fraction | None
    """Decay per step of the averaged weights, which are then the ones kept; null = keep the last weights."""
    figures: AutoencoderFiguresParams
    optimizer: OptimizerParams

    def constructor(self) -> dict[str, Any]:
        """The arguments of the codec ``name``, but for the image's shape."""
        if self.name == "diffae":
            return {"inner": {"name": self.diffae.inner, **self._knobs_of(self.diffae.inner)}, **self.diffae.constructor()}
        return self._knobs_of(self.name)

    @property
    def makes_vectors(self) -> bool:
        """Whether latents are vectors (D,) and not maps (C, H, W)."""
        return self.name == "diffae" or (self.name != "identity" and self.latent_dim is not None)

    def _knobs_of(self, name: str) -> dict[str, Any]:
        return self.model_dump(include=set(_CONSTRUCTORS[name]))

    @model_validator(mode="after")
    def _levels_match(self) -> "AutoencoderParams":
        levels = len(self.encoder_channels)
        for knob in ("encoder_blocks", "decoder_channels", "decoder_blocks"):
            if len(getattr(self, knob)) != levels:
                raise ValueError(
                    f"autoencoder.{knob}: {getattr(self, knob)} has {len(getattr(self, knob))} levels; "
                    f"expected {levels}, as autoencoder.encoder_channels has; give all four the same number"
                )
        if bad := [level for level in self.attention_levels if level >= levels]:
            raise ValueError(f"autoencoder.attention_levels: {bad[0]} is no level; expected numbers below {levels}, counted from 0; take it out")
        for knob in ("encoder_blocks", "decoder_blocks"):
            if bare := [level for level in self.attention_levels if getattr(self, knob)[level] == 0]:
                raise ValueError(
                    f"autoencoder.attention_levels: {bare[0]} has no residual block in autoencoder.{knob}; expected one for attention to follow; "
                    f"take it out, or give that level a block"
                )
        return self

    @model_validator(mode="after")
    def _widths_divide(self) -> "AutoencoderParams":
        for knob in ("encoder_channels", "decoder_channels"):
            for width in getattr(self, knob):
                if width % self.groups:
                    raise ValueError(
                        f"autoencoder.groups: {self.groups} does not divide {width} of autoencoder.{knob}; expected a common divisor; lower it"
                    )
                if width % self.attention_heads:
                    raise ValueError(
                        f"autoencoder.attention_heads: {self.attention_heads} does not divide {width} of autoencoder.{knob}; "
                        "expected a divisor; lower it"
                    )
        return self

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "AutoencoderParams":
        require_weights_to_check("autoencoder", self.init_from, self.init_from_sha256)
        if self.name == "identity" or self.init_from != NO_WEIGHTS:
            return self
        if self.epochs == 0:
            raise ValueError(
                f"autoencoder.epochs: 0 leaves the {self.name} untrained; expected at least 1, or a folder in autoencoder.init_from; set one"
            )
        if self.freeze_encoder:
            raise ValueError("autoencoder.freeze_encoder: true keeps a random encoder; expected a folder in autoencoder.init_from; set it, or false")
        return self

    @model_validator(mode="after")
    def _diffusion_decodes_alone(self) -> "AutoencoderParams":
        if self.name != "diffae":
            return self
        for knob, weight in (("perceptual_weight", self.perceptual_weight), ("adversarial.weight", self.adversarial.weight)):
            if weight:
                raise ValueError(
                    f"autoencoder.{knob}: {weight:g} looks at reconstructions, which a diffae has none of while it trains; "
                    "expected 0; set it so, or autoencoder.name to ae or vae"
                )
        if self.diffae.inner != "identity" and self.latent_dim is not None:
            raise ValueError(
                f"autoencoder.latent_dim: {self.latent_dim} gives autoencoder.diffae.inner {self.diffae.inner} latents that are vectors; "
                "expected null, since the decoder works on maps; set it so"
            )
        return self
