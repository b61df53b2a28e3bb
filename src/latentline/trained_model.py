"""Use a finished run from Python.

::

    from latentline import load

    model = load(".")  # the folder in which `dvc repro` ran
    z0 = model.encode(images)
    z_t = model.add_noise(images, t=0.7)
    images = model.decode(model.denoise(z_t, t=0.7, condition=model.condition(label="Sandal")))
    images = model.inpaint(images, mask)  # bool (H, W), True = to fill

Images are float (B, C, H, W) in [-1, 1]. Latents are standardised z0 (B, *latent_shape), as the denoiser and the probes
receive them, never the autoencoder's raw ones; ``model.stats.normalizer`` converts between the two. t is in [0, 1]: 0 =
data, 1 = noise. Inputs of any float type become float32; a batch of no rows gives none. All networks are frozen, but
gradients flow through every method to its inputs. No stage imports this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline import image_edits, prompt_edits
from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.caption_similarity import caption_similarity
from latentline.core.condition import Condition, Mixture
from latentline.core.errors import UserError
from latentline.core.finite import require_finite
from latentline.core.inputs import (
    float_batch,
    image_batch,
    require_integer,
    require_number,
    require_same_length,
    time_in_range,
)
from latentline.core.paths import DENOISER
from latentline.core.seeds import generator
from latentline.denoisers.condition_values import condition_of, require_condition
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.diffusion import partial_denoising
from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import DenoiserModel
from latentline.latents.cache import LatentStats, read_stats

_MAX_SCALE = 100  # of guidance, as in params.yaml


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a run on their device, in evaluation mode. Build it with :func:`load`.

    Inputs are moved to that device, and results stay there.
    """

    autoencoder: TrainedAutoencoder
    stats: LatentStats
    trained_denoiser: Denoiser | None
    device: torch.device
    root: Path = Path()  # folder of the run

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.autoencoder.image_shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, H, W) of a latent map, (D,) of a latent vector."""
        return self.stats.shape

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser. Raises UserError when none has been trained."""
        if self.trained_denoiser is None:
            raise UserError(f"{DENOISER} is missing; run `dvc repro train_denoiser`")
        return self.trained_denoiser

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, C, H, W) in [-1, 1] as standardised latents z0 (B, *latent_shape).

        An autoencoder with a posterior returns its mean.

        Raises:
            UserError: the images have another shape or range, or are integers.
        """
        x = self._images(images)
        return self._encoded(x) if len(x) else x.new_empty(0, *self.latent_shape)

    def decode(self, z0: Tensor, noise: Tensor | None = None) -> Tensor:
        """Decode standardised latents z0 (B, *latent_shape) as images (B, C, H, W), about in [-1, 1].

        Args:
            z0: latents.
            noise: x_T (B, *noise_shape) that a diffusion autoencoder starts from, such as from :meth:`invert`; None =
                the same for all images.

        Raises:
            UserError: another shape, integers, or latents so large that the images are not finite.
        """
        raw = self._raw(z0)
        noise = None if noise is None else self._noise_input(noise, "decode with noise")
        require_same_length(z0=raw, noise=noise)
        if not len(raw):
            return raw.new_empty(0, *self.image_shape)
        images = self.autoencoder.network.decode(raw, noise)
        largest = float(z0.detach().abs().max())
        return require_finite(images, f"z0 (values up to {largest:g})", "take it from model.encode", "images")

    def invert(self, images: Tensor, z0: Tensor) -> Tensor:
        """Return the noise x_T (B, *noise_shape) from which :meth:`decode` of z0 returns the images.

        Diffusion autoencoders only; images (B, C, H, W) in [-1, 1].
        """
        shape, x, raw = self._require_noise("invert"), self._images(images), self._raw(z0)
        require_same_length(images=x, z0=raw)
        return self.autoencoder.network.invert(x, raw) if len(x) else x.new_empty(0, *shape)

    # Methods, whose length asks for modules of their own.
    inpaint, sdedit = image_edits.inpaint, image_edits.sdedit
    mix, prompt_direction = prompt_edits.mix, prompt_edits.prompt_direction
    caption_similarity = caption_similarity

    def condition(self, **values: Any) -> Condition:
        """Return a condition, such as ``condition(label="Sandal")`` or ``condition(label=[0, 1, 2])``.

        Args:
            values: of all attributes that the denoiser is conditioned on, by name; one value, or one for each of B
                images as list, array or tensor. A value is the name of a class, its index, or a number. ``prompt`` is
                a caption, or a list of them, with such attributes or alone. Without any, the result is the null
                condition.

        Returns:
            The condition of B examples. Where every attribute has one value it is the condition of one example, which
            holds for any number of images.

        Raises:
            UserError: see :func:`latentline.denoisers.condition_values.condition_of`.
        """
        return condition_of(self.denoiser.conditioning, values).to(self.device)

    def add_noise(self, images: Tensor, t: float, seed: int = 0) -> Tensor:
        """Encode images (B, C, H, W) in [-1, 1] and add noise up to ``t``: z_t (B, *latent_shape).

        The noise depends on the seed alone.
        """
        return self.add_noise_to_latents(self.encode(images), t, seed)

    def add_noise_to_latents(self, z0: Tensor, t: float, seed: int = 0) -> Tensor:
        """Return z_t at ``t`` in [0, 1] of standardised latents z0, (B, *latent_shape) each.

        The noise depends on the seed alone.
        """
        start = self._latents("z0", z0)
        return add_noise_at(self.denoiser.process.path, start, self._noise(len(start), seed), time_in_range(t))

    def estimate(
        self, z_t: Tensor, t: float, condition: Condition | Mixture | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """Return the network's estimate of E[z0 | z_t], (B, *latent_shape) each, which is blurred where t is large.

        It takes one evaluation. Arguments as of :meth:`denoise`.
        """
        state, time = self._latents("z_t", z_t), time_in_range(t)
        model = self._model(condition, len(state), guidance_scale)
        return self._finite(partial_denoising.estimate(model, state, time), guidance_scale) if len(state) else state

    def denoise(
        self,
        z_t: Tensor,
        t: float,
        condition: Condition | Mixture | None = None,
        steps: int = 16,
        guidance_scale: float = 1.0,
        negative_prompt: str | None = None,
    ) -> Tensor:
        """Return a sample of z0 given z_t, (B, *latent_shape) each.

        Args:
            z_t: the state at ``t``.
            t: in (0, 1].
            condition: from :meth:`condition` or :meth:`mix`, of B examples or of one; None = the null condition.
            steps: of DPM-Solver++, evenly from t to 0; one network evaluation each, two with guidance,
                n + 1 with a mixture of n.
            guidance_scale: of classifier-free guidance; 1 = off.
            negative_prompt: caption that guidance leads away from; None = it leads away from the null condition.
        """
        state, time = self._latents("z_t", z_t), time_in_range(t, zero=False)
        require_integer("steps", steps, 1)
        model = self._model(condition, len(state), guidance_scale, negative_prompt)
        return (
            self._finite(partial_denoising.denoise(model, state, time, steps), guidance_scale) if len(state) else state
        )

    def sample(
        self,
        count: int,
        condition: Condition | Mixture | None = None,
        steps: int = 16,
        guidance_scale: float = 1.0,
        seed: int = 0,
        prompt: str | Mapping[str, float] | None = None,
        negative_prompt: str | None = None,
    ) -> Tensor:
        """Draw new z0 (count, *latent_shape) from noise: :meth:`denoise` from t = 1.

        A ``prompt`` is short for the condition ``model.condition(prompt=...)``. Several are mixed (:meth:`mix`) with
        weights, ``{"a red square": 1.5, "a circle": 0.5}``.
        """
        require_integer("count", count, 0)
        if prompt is not None and condition is not None:
            raise UserError(f"prompt ({prompt!r:.40}) must be part of condition; pass model.condition(prompt=..., ...)")
        condition = condition if prompt is None else prompt_edits.condition_of_prompts(self, prompt)
        return self.denoise(self._noise(count, seed), 1.0, condition, steps, guidance_scale, negative_prompt)

    def _noise(self, count: int, seed: int) -> Tensor:
        return torch.randn((count, *self.latent_shape), generator=generator(seed, "library")).to(self.device)

    def _model(
        self,
        condition: Condition | Mixture | None,
        count: int,
        guidance_scale: float,
        negative_prompt: str | None = None,
    ) -> DenoiserModel:
        scale = require_number("guidance_scale", guidance_scale, 0, _MAX_SCALE)
        chosen = self.condition() if condition is None else condition
        require_condition(chosen, self.denoiser.conditioning.cond_dim, count, negative_prompt)
        negative = None if negative_prompt is None else self.condition(prompt=negative_prompt).expanded(count)
        network, process = self.denoiser.network, self.denoiser.process
        return guided_model(network, process, chosen.to(self.device).expanded(count), Guidance(scale), negative)

    def _images(self, images: Tensor) -> Tensor:
        return image_batch(images, self.image_shape, self.device)

    def _encoded(self, x: Tensor) -> Tensor:
        """Return z0 of images that have been checked."""
        return self.stats.normalizer.standardise(self.autoencoder.network.encode(x))

    def _latents(self, name: str, latents: Tensor) -> Tensor:
        remedy = "take it from model.encode"
        return float_batch(latents, name, self.latent_shape, self.device, "and standardised,", remedy)

    def _raw(self, z0: Tensor) -> Tensor:
        return self.stats.normalizer.restore(self._latents("z0", z0))

    def _noise_input(self, noise: Tensor, use: str) -> Tensor:
        shape = self._require_noise(use)
        return float_batch(noise, "noise", shape, self.device, "and standard normal,", "take it from model.invert")

    def _finite(self, z0: Tensor, guidance_scale: float) -> Tensor:
        return require_finite(z0, f"guidance_scale ({guidance_scale})", "lower it, or train the denoiser again")

    def _require_noise(self, method: str) -> tuple[int, ...]:
        """Return the shape of the noise that the autoencoder decodes from."""
        shape = self.autoencoder.network.noise_shape
        if shape is None:
            raise UserError(f"autoencoder.name of this run must be diffae for {method}; train a diffae")
        return shape


def load(root: Path | str = ".", device: torch.device | str = "cpu") -> TrainedModel:
    """Load the run in folder ``root``; without a denoiser's checkpoint it still encodes and decodes.

    Args:
        root: folder of the run, which holds checkpoints/ and encoded_img/.
        device: a device, or torch's name of one.

    Raises:
        UserError: a file is missing or damaged, or belongs to another autoencoder than the others; or there is no such
            device.
    """
    root = Path(root)
    try:
        on_device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # of torch, one for each kind of build
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"device ({device}: {reason}) must be one that this machine has; take cpu") from None
    autoencoder, stats = load_autoencoder(on_device, root), read_stats(root)
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(on_device, stats, root) if (root / DENOISER).exists() else None
    return TrainedModel(autoencoder, stats, denoiser, on_device, root)
