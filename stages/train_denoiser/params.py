"""Section ``denoiser``: the diffusion model of the latents."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from latentline.core.params import (
    NO_WEIGHTS,
    Count,
    Depth,
    Fraction,
    Positive,
    PositiveFloat,
    Scale,
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
    "dit": {
        "width",
        "depth",
        "heads",
        "patch_size",
        "time_features",
        "time_scale",
        "learn_sigma",
        "qk_norm",
        "norm",
        "mlp",
        "rope",
    },
    "mlp": {"width", "depth"},
}
"""Settings that shape each kind of network. All others are valid too but have no effect, so that changing the name
alone works."""


class ProcessParams(Section):
    """Diffusion process: noise path, prediction and loss weighting."""

    path: Literal["flow", "vp_linear", "vp_cosine"] = "flow"
    """flow (straight) | vp_linear (DDPM: beta from 1e-4 to 0.02) | vp_cosine: noise path."""
    prediction: Literal["velocity", "v", "epsilon", "x0"] = "velocity"
    """velocity (path flow only) | v | epsilon (vp paths only) | x0: output of the network."""
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    """uniform | logit_normal (more often in the middle): distribution of t in training."""
    loss_weighting: Literal["uniform", "min_snr"] = "uniform"
    """uniform | min_snr: weight of the squared error at each t."""


class FlowMapParams(Section):
    """Distillation of the denoiser in init_from for sampler flow_map; used with objective flow_map."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Fraction of the training examples that are intervals of the teacher's trajectories; the others teach the velocity
    from data."""
    trajectories: Positive = 120_000
    """Number of trajectories, under the conditions of the cached latents in turn; each costs as much as 6 examples."""
    steps: Annotated[int, Field(ge=2, le=1000, multiple_of=2)] = 12
    """UniPC steps of a trajectory, an even number."""
    guidance_scale: Scale = 3.5
    """Of the trajectories; sampler flow_map needs the same sample.guidance_scale."""
    guidance_start: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Smallest t with guidance; sampler flow_map needs the same sample.guidance_start."""
    guidance_end: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Largest t with guidance; sampler flow_map needs the same sample.guidance_end."""

    def guidance(self) -> dict[str, float]:
        """Return what the checkpoint stores: the arguments of ``diffusion.flow_map.FlowMap``."""
        return self.model_dump(include={"guidance_scale", "guidance_start", "guidance_end"})


class PreviewParams(Section):
    """Grids of samples drawn while training."""

    every_epochs: Count = 4
    """Draw a grid of samples every so many epochs; 0 = never."""
    height: Positive = 10
    """Upper limit of the rows of a grid; with classes, each row is one class."""
    width: Positive = 8
    """Images per row."""
    scale: Positive = 2
    """Enlargement: each pixel is drawn as scale x scale pixels."""
    steps: Steps = 8
    """DPM-Solver++ steps, one network evaluation each."""
    guidance_scale: Scale = 1.5
    """Scale of classifier-free guidance; 1 = off."""


class TextEncoderParams(Section):
    """Network of the captions, trained together with the denoiser; used where the images have captions.

    Of a pretrained encoder (``text.encoder``) a projection of its states trains, and its width alone applies.
    """

    width: Width = 128
    """Channels of every layer and of the states that the denoiser attends to."""
    depth: Depth = 2
    """Blocks; text.encoder transformer only."""
    heads: Positive = 4
    """Attention heads, a divisor of the width; text.encoder transformer only."""


class DenoiserParams(Section):
    """Settings of stage ``train_denoiser``."""

    name: Literal["unet", "dit", "mlp"] = "unet"
    """unet | dit (both for latent maps) | mlp (for latent vectors); see docs/denoisers.md."""
    epochs: Count = 10
    """Passes over the cached latents; 0 only with init_from. A larger number continues from the step where the
    learning rate began to fall."""
    channels: Widths = Field(default=[64, 64])
    """Width of each level, from the latent's size down; each further level halves the map; unet only."""
    blocks: Depth = 1
    """Residual blocks per level on the way down; one more on the way up; unet only."""
    attention_levels: list[Count] = Field(default=[])
    """Levels with self-attention (0 = the latent's own size); unet only."""
    width: Width = 256
    """Channels of every layer; dit and mlp only."""
    depth: Depth = 6
    """Blocks of a dit, hidden layers of an mlp."""
    heads: Positive = 4
    """Attention heads; dit only."""
    patch_size: Positive = 1
    """Positions per side of the squares folded into a token (dit) or into channels (unet); 1 = none."""
    time_features: Width | None = None
    """Sines and cosines of t (DiT and SiT: 256); null = as many as width, at 1 to 1000 radians per unit of t; dit
    only."""
    time_scale: PositiveFloat = 1000.0
    """Fastest of time_features, in radians per unit of t (DiT: 1000, SiT and LightningDiT: 1); dit only."""
    learn_sigma: bool = False
    """Twice the output channels, as published DiT and SiT weights have; the second half is unused and untrained; dit
    only."""
    qk_norm: bool = False
    """Normalised queries and keys, for stable training of large networks; dit only."""
    norm: Literal["layer", "rms"] = "layer"
    """layer (LayerNorm, as DiT) | rms (RMSNorm, as LightningDiT): normalisation; dit only."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """gelu (as DiT) | swiglu (as LightningDiT): feed-forward layers of equal cost; dit only."""
    rope: bool = False
    """Rotary positions in attention, as LightningDiT, besides sines and cosines added to the tokens; dit only."""
    gaussian_rank: Annotated[int, Field(ge=0, le=4096)] = 64
    """Near noise the network corrects the exact denoiser of Gaussian latents, with one Gaussian for each class:
    principal axes of each covariance; 0 = no Gaussians."""
    condition: Literal["all", "class", "text", "none"] = "all"
    """all (class, attributes and captions, as far as there are any) | class | text (captions) | none: what the network
    is conditioned on."""
    label_dropout: Fraction = 0.1
    """Fraction of training examples with the null condition, for classifier-free guidance."""
    ema_decays: Annotated[list[Fraction], Field(min_length=1)] = Field(default=[0.999, 0.997])
    """Decays per step of averaged weights (EMA), after a warm-up. Of several averages, sampling uses the one with the
    lowest validation loss; loss curves and previews use the first."""
    guide_epochs: Count = 1
    """Epochs after which a copy of the first average is kept, for sample.guide: about an eighth of all epochs; 0 =
    none."""
    init_from: Annotated[str, Field(min_length=1)] = NO_WEIGHTS
    """Initial weights: checkpoints/denoiser of another run, or published weights of DiT or SiT (a .pt or .safetensors
    file, or a folder of diffusers); data/no_weights = random weights."""
    init_from_sha256: Sha256 | None = None
    """Expected sha256 of the weights' file in that folder; null = any."""
    objective: Literal["flow_matching", "flow_map"] = "flow_matching"
    """flow_matching (the prediction of denoiser.process) | flow_map (where trajectories of the denoiser in init_from
    lead, too, for sampler flow_map with 1 or 2 steps): what is learnt; see docs/diffusion.md."""
    flow_map: FlowMapParams = FlowMapParams()
    text: TextEncoderParams = TextEncoderParams()
    process: ProcessParams = ProcessParams()
    preview: PreviewParams = PreviewParams()
    muon: bool = True
    """Whether Muon moves the matrices and kernels between the first and the last layer; AdamW moves all else. See
    docs/denoisers.md."""
    optimizer: OptimizerParams = OptimizerParams(batch_size=64, warmup_steps=200, decay_fraction=0.4)

    def constructor(self) -> dict[str, Any]:
        """Return the arguments of the network ``name``, without the latent's shape and the condition's width."""
        averages = {"average_velocity": True} if self.objective == "flow_map" else {}
        return self.model_dump(include=_CONSTRUCTORS[self.name]) | averages

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "DenoiserParams":
        require_weights_to_check("denoiser", self.init_from, self.init_from_sha256)
        if self.epochs == 0 and self.init_from == NO_WEIGHTS:
            raise ValueError(
                f"denoiser.epochs (0) must be at least 1 without initial weights for the {self.name}; "
                "raise it, or set denoiser.init_from to a folder of weights"
            )
        return self

    @model_validator(mode="after")
    def _trajectories_are_of_velocities(self) -> "DenoiserParams":
        if self.objective != "flow_map":
            return self
        process = self.process
        if self.init_from == NO_WEIGHTS or not self.epochs:
            name, value = ("epochs", 0) if self.init_from != NO_WEIGHTS else ("init_from", self.init_from)
            expected = "at least 1" if name == "epochs" else "the checkpoints/denoiser of a trained run"
            raise ValueError(
                f"denoiser.{name} ({value}) must be {expected} with denoiser.objective flow_map, which distils that "
                "denoiser; set it so, or the objective to flow_matching"
            )
        for name, value, expected in (
            ("process.path", process.path, "flow"),
            ("process.prediction", process.prediction, "velocity"),
            ("process.loss_weighting", process.loss_weighting, "uniform"),
        ):
            if value != expected:
                raise ValueError(
                    f"denoiser.{name} ({value}) must be {expected} with denoiser.objective flow_map; set it so, or "
                    "the objective to flow_matching"
                )
        if self.optimizer.batch_size * self.flow_map.fraction < 1:
            raise ValueError(
                f"denoiser.flow_map.fraction ({self.flow_map.fraction}) must be at least one example of "
                f"denoiser.optimizer.batch_size ({self.optimizer.batch_size}); raise one of them"
            )
        if self.flow_map.guidance_start > self.flow_map.guidance_end:
            raise ValueError(
                f"denoiser.flow_map.guidance_start ({self.flow_map.guidance_start}) must be at most "
                f"denoiser.flow_map.guidance_end ({self.flow_map.guidance_end}); lower it, or raise guidance_end"
            )
        return self

    @model_validator(mode="after")
    def _decays_differ(self) -> "DenoiserParams":
        if len(set(self.ema_decays)) < len(self.ema_decays):
            raise ValueError(f"denoiser.ema_decays ({self.ema_decays}) must be different numbers; take the double out")
        return self

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "DenoiserParams":
        if self.name == "dit" and self.width % self.heads:
            divisors = [heads for heads in range(1, self.width + 1) if self.width % heads == 0]
            fewer = max(heads for heads in divisors if heads < self.heads)
            more = min((heads for heads in divisors if heads > self.heads), default=None)
            choice = f"{fewer}" if more is None else f"{fewer} or {more}"
            expected = f"divisible by denoiser.heads ({self.heads})"
            raise ValueError(f"denoiser.width ({self.width}) must be {expected}; set heads to {choice}")
        return self

    @model_validator(mode="after")
    def _text_heads_share_the_width(self) -> "DenoiserParams":
        if self.text.width % self.text.heads:
            raise ValueError(
                f"denoiser.text.width ({self.text.width}) must be divisible by denoiser.text.heads "
                f"({self.text.heads}); change one of them"
            )
        return self

    @model_validator(mode="after")
    def _rope_turns_pairs_of_two_axes(self) -> "DenoiserParams":
        if self.name == "dit" and self.rope and self.width % (4 * self.heads):
            raise ValueError(
                f"denoiser.width ({self.width}) must be divisible by 4 times denoiser.heads ({self.heads}) with "
                "denoiser.rope; change one of them, or set rope to false"
            )
        return self
