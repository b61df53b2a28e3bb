"""Draw samples: with ``moments.py`` all that the images depend on.

The key of finished chunks covers both modules and their imports. They therefore import nothing that draws figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.core.finite import require_finite
from latentline.core.labels import LabelTable
from latentline.denoisers.conditioning import labels_for_samples
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.denoisers.moment_matching import MomentMaps
from latentline.denoisers.sampling import SamplingConfig, draw_latents
from latentline.diffusion.steps import Callback
from latentline.latents.cache import LatentStats, read_labels, read_stats
from latentline.runtime.precision import Precision, inference
from latentline.runtime.resumable_map import Chunk, ResumableMap
from latentline.samplers.settings import SamplingSettings
from stages.sample.params import SampleParams
from stages.sample.prompts import read_prompts

STAGE = "sample"


@dataclass(frozen=True)
class ImageSampler:
    """The networks of a run with sampler, labels and seed: an image depends on them and on its index."""

    autoencoder: TrainedAutoencoder
    denoiser: Denoiser
    stats: LatentStats
    config: SamplingConfig
    labels: LabelTable  # of all samples
    seed: int
    setting: str  # the probable cause of a latent that is NaN or infinite, with its value
    precision: Precision = "float32"
    prompts: Tensor | None = None  # tokens (P, L) of captions that samples have in turn; None = no captions
    classes_in_turn: bool = True  # False = each sample has the class of the image whose caption it has
    moments: MomentMaps | None = None  # which the latents get; None = they stay as they are drawn

    def tokens(self, indices: Tensor) -> Tensor | None:
        """Return the tokens (B, L) of the captions of samples ``indices`` (B,); None = no captions."""
        return None if self.prompts is None else self.prompts[indices % len(self.prompts)]

    def captions(self) -> list[str] | None:
        """Return the captions that samples have in turn, as the tokenizer normalises and cuts them; None = none."""
        tokenizer = self.denoiser.conditioning.tokenizer
        return None if self.prompts is None or tokenizer is None else tokenizer.decode(self.prompts)

    def latents(self, indices: Tensor, callback: Callback | None = None) -> Tensor:
        """Draw the standardised latents (B, *latent_shape) of samples ``indices`` (B,), on the device.

        Raises:
            UserError: one is NaN or infinite.
        """
        labels, tokens = self.labels[indices], self.tokens(indices)
        z0 = self.draw(STAGE, indices, labels, callback, tokens)
        if self.moments is None:
            return z0
        return self.moments(z0, self.denoiser.conditioning.encode(labels).to(z0.device))

    def draw(
        self,
        name: str,
        indices: Tensor,
        labels: LabelTable,
        callback: Callback | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Draw latents as :meth:`latents` does, of B images of the series ``name``, without the moments.

        Raises:
            UserError: one is NaN or infinite.
        """
        with inference(self.denoiser.device, self.precision, "sample.precision"):
            z0 = draw_latents(self.denoiser, self.config, self.seed, name, indices, labels, callback, tokens)
        return require_finite(z0, self.setting, "lower it, or train the denoiser with a lower denoiser.optimizer.lr")

    def images(self, indices: Tensor) -> Tensor:
        """Draw uint8 images (B, C, H, W) of consecutive samples ``indices`` (B,), on the CPU."""
        raw = self.stats.normalizer.restore(self.latents(indices))
        with inference(self.denoiser.device, self.precision, "sample.precision"):
            return self.autoencoder.decode(raw, first=int(indices[0]))


def load_image_sampler(params: SampleParams, seed: int, device: torch.device) -> ImageSampler:
    """Load the networks and the labels of the samples.

    Raises:
        UserError: a file is missing, damaged or of another run, or the sampler cannot serve the denoiser's process.
    """
    autoencoder = load_autoencoder(device)
    stats = read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(device, stats)
    config = SamplingSettings.of(params).config(denoiser, "sample.")
    cause, tokenizer = _probable_cause(params), denoiser.conditioning.tokenizer
    prompts, own = (None, None) if tokenizer is None else read_prompts(params, tokenizer, stats.schema)
    labels = labels_for_samples(read_labels(stats.schema), params.count)
    if own is not None:
        labels = own[torch.arange(params.count) % len(own)]
    in_turn = own is None
    return ImageSampler(autoencoder, denoiser, stats, config, labels, seed, cause, params.precision, prompts, in_turn)


def _probable_cause(params: SampleParams) -> str:
    """Return the setting that most probably makes latents infinite, with its value."""
    strongest = {"ddpm": "sigma_scale", "flow_sde": "diffusion"}.get(params.sampler, "guidance_scale")
    name = strongest if getattr(params, strongest) > params.guidance_scale else "guidance_scale"
    return f"sample.{name} ({getattr(params, name)})"


def draw_images(sampler: ImageSampler, batch_size: int, chunks: ResumableMap) -> Iterator[Tensor]:
    """Return batches of uint8 images (B, C, H, W), each drawn on demand unless an earlier run has drawn it."""
    batches = torch.arange(len(sampler.labels)).split(batch_size)

    def draw(number: int) -> Chunk:
        return {"images": sampler.images(batches[number])}

    return (chunk["images"] for chunk in chunks.map(len(batches), draw))
