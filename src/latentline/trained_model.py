"""Use a finished run from Python.

::

    from latentline import load

    model = load(".")  # the folder in which `dvc repro` ran
    z0 = model.encode(images)
    z_t = model.add_noise(images, t=0.7)
    images = model.decode(model.denoise(z_t, t=0.7, condition=model.condition(label="Sandal")))

Images are float (B, C, H, W) in [-1, 1]. Latents are standardised z0 (B, *latent_shape), as the denoiser and the probes
receive them, never the autoencoder's raw ones; ``model.stats.normalizer`` converts between the two. t is in [0, 1]:
0 = data, 1 = noise. All networks are frozen, but gradients flow through every method to its inputs. No stage imports
this module.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.core.attributes import Attribute
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.core.paths import DENOISER
from latentline.core.seeds import generator
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.diffusion import partial_denoising
from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import DenoiserModel
from latentline.latents.cache import LatentStats, read_stats

Value = str | float
"""Value of an attribute: the name of a class, its index, or a number."""


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a run on their device, in evaluation mode. Build it with :func:`load`.

    Inputs are moved to that device, and results stay there.
    """

    autoencoder: TrainedAutoencoder
    stats: LatentStats
    trained_denoiser: Denoiser | None
    device: torch.device

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
            UserError: the images have another shape, or are integers.
        """
        if images.shape[1:] != self.image_shape or not images.is_floating_point():
            expected = f"float in [-1, 1] of shape (B, {', '.join(map(str, self.image_shape))})"
            raise UserError(
                f"images ({images.dtype} {tuple(images.shape)}) must be {expected}; "
                "convert bytes with latentline.data.store.to_unit_range"
            )
        return self.stats.normalizer.standardise(self.autoencoder.network.encode(images.to(self.device)))

    def decode(self, z0: Tensor, noise: Tensor | None = None) -> Tensor:
        """Decode standardised latents z0 (B, *latent_shape) as images (B, C, H, W), about in [-1, 1].

        Args:
            z0: latents.
            noise: x_T (B, *noise_shape) that a diffusion autoencoder starts from, such as from :meth:`invert`; None =
                the same for all images.
        """
        return self.autoencoder.network.decode(self._raw(z0), None if noise is None else noise.to(self.device))

    def invert(self, images: Tensor, z0: Tensor) -> Tensor:
        """Return the noise x_T (B, *noise_shape) from which :meth:`decode` of z0 returns the images.

        Diffusion autoencoders only; images (B, C, H, W) in [-1, 1].
        """
        self._require_noise("invert")
        return self.autoencoder.network.invert(images.to(self.device), self._raw(z0))

    def sdedit(self, images: Tensor, z0: Tensor, t: float, seed: int = 0) -> Tensor:
        """Add noise to images (B, C, H, W) in [-1, 1] up to ``t``, and denoise them conditioned on z0.

        The z0 may be theirs or another. Diffusion autoencoders only.
        """
        shape = self._require_noise("sdedit")
        noise = torch.randn((len(images), *shape), generator=generator(seed, "library")).to(self.device)
        return self.autoencoder.network.sdedit(images.to(self.device), self._raw(z0), _time(t), noise)

    def condition(self, **values: Value | Tensor | list[Value]) -> Condition:
        """Return a condition, such as ``condition(label="Sandal")`` or ``condition(label=[0, 1, 2])``.

        Args:
            values: of all attributes that the denoiser is conditioned on, by name; one value, or one for each of B
                images. Without any, the result is the null condition.

        Returns:
            The condition of B examples. Where every attribute has one value it is the condition of one example, which
            holds for any number of images.

        Raises:
            UserError: an unknown attribute or class, or a missing attribute.
        """
        conditioning = self.denoiser.conditioning
        if not values:
            return conditioning.null(1).to(self.device)
        if set(values) != set(conditioning.names):
            expected = ", ".join(conditioning.names) or "no attribute: the denoiser is unconditional"
            raise UserError(
                f"condition ({', '.join(sorted(values))}) must name {expected}; give each of them, or none at all"
            )
        columns = [_numbers(attribute, values[attribute.name]) for attribute in conditioning.attributes]  # (B,) or (1,)
        table = LabelTable(conditioning.attributes, torch.stack(torch.broadcast_tensors(*columns), dim=1))
        return conditioning.encode(table).to(self.device)

    def add_noise(self, images: Tensor, t: float, seed: int = 0) -> Tensor:
        """Encode images (B, C, H, W) in [-1, 1] and add noise up to ``t``: z_t (B, *latent_shape).

        The noise depends on the seed alone.
        """
        return self.add_noise_to_latents(self.encode(images), t, seed)

    def add_noise_to_latents(self, z0: Tensor, t: float, seed: int = 0) -> Tensor:
        """Return z_t at ``t`` in [0, 1] of standardised latents z0, (B, *latent_shape) each.

        The noise depends on the seed alone.
        """
        self._check_latents("z0", z0)
        noise = self._noise(len(z0), seed)
        return add_noise_at(self.denoiser.process.path, z0.to(self.device), noise, _time(t))

    def estimate(
        self, z_t: Tensor, t: float, condition: Condition | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """Return the network's estimate of E[z0 | z_t], (B, *latent_shape) each, which is blurred where t is large.

        It takes one evaluation. Arguments as of :meth:`denoise`.
        """
        self._check_latents("z_t", z_t)
        model = self._model(condition, len(z_t), guidance_scale)
        return partial_denoising.estimate(model, z_t.to(self.device), _time(t))

    def denoise(
        self, z_t: Tensor, t: float, condition: Condition | None = None, steps: int = 16, guidance_scale: float = 1.0
    ) -> Tensor:
        """Return a sample of z0 given z_t, (B, *latent_shape) each.

        Args:
            z_t: the state at ``t``.
            t: in (0, 1].
            condition: from :meth:`condition`, of B examples or of one; None = the null condition.
            steps: of DPM-Solver++, evenly from t to 0; one network evaluation each, two with guidance.
            guidance_scale: of classifier-free guidance; 1 = off.
        """
        self._check_latents("z_t", z_t)
        if not 0 < t <= 1:
            raise UserError(f"t ({t}) must be above 0 and at most 1; correct it")
        if steps < 1:
            raise UserError(f"steps ({steps}) must be at least 1; raise it")
        return partial_denoising.denoise(
            self._model(condition, len(z_t), guidance_scale), z_t.to(self.device), t, steps
        )

    def sample(
        self,
        count: int,
        condition: Condition | None = None,
        steps: int = 16,
        guidance_scale: float = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """Draw new z0 (count, *latent_shape) from noise: :meth:`denoise` from t = 1."""
        return self.denoise(self._noise(count, seed), 1.0, condition, steps, guidance_scale)

    def _noise(self, count: int, seed: int) -> Tensor:
        return torch.randn((count, *self.latent_shape), generator=generator(seed, "library")).to(self.device)

    def _model(self, condition: Condition | None, count: int, guidance_scale: float) -> DenoiserModel:
        chosen = self.condition() if condition is None else condition.to(self.device)
        length = self.denoiser.conditioning.cond_dim
        if chosen.vector.shape[1:] != (length,) or chosen.size not in (1, count):
            raise UserError(
                f"condition {tuple(chosen.vector.shape)} must have the shape ({count}, {length}) or (1, {length}); "
                "take it from model.condition(...)"
            )
        return guided_model(
            self.denoiser.network, self.denoiser.process, chosen.expanded(count), Guidance(guidance_scale)
        )

    def _raw(self, z0: Tensor) -> Tensor:
        self._check_latents("z0", z0)
        return self.stats.normalizer.restore(z0.to(self.device))

    def _require_noise(self, method: str) -> tuple[int, ...]:
        """Return the shape of the noise that the autoencoder decodes from."""
        shape = self.autoencoder.network.noise_shape
        if shape is None:
            raise UserError(f"autoencoder.name of this run must be diffae for {method}; train a diffae")
        return shape

    def _check_latents(self, name: str, latents: Tensor) -> None:
        if latents.shape[1:] != self.latent_shape:
            expected = f"(B, {', '.join(map(str, self.latent_shape))})"
            raise UserError(
                f"{name} {tuple(latents.shape)} must have the shape {expected}, standardised; take it from model.encode"
            )


def load(root: Path | str = ".", device: str = "cpu") -> TrainedModel:
    """Load the run in folder ``root``; without a denoiser's checkpoint it still encodes and decodes.

    Args:
        root: folder of the run, which holds checkpoints/ and encoded_img/.
        device: torch's name of the device.

    Raises:
        UserError: a file is missing or damaged, or belongs to another autoencoder than the others.
    """
    root, on_device = Path(root), torch.device(device)
    autoencoder, stats = load_autoencoder(on_device, root), read_stats(root)
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(on_device, stats, root) if (root / DENOISER).exists() else None
    return TrainedModel(autoencoder, stats, denoiser, on_device)


def _time(t: float) -> float:
    if not 0 <= t <= 1:
        raise UserError(f"t ({t}) must be from 0 (data) to 1 (noise); correct it")
    return t


def _numbers(attribute: Attribute, values: Value | Tensor | list[Value]) -> Tensor:
    """Return values of an attribute as numbers (B,): class indices, or the values themselves."""
    if isinstance(values, Tensor):
        values = values.flatten().tolist()
    classes = attribute.classes
    numbers = [
        classes.index(value) if isinstance(value, str) and value in classes else value
        for value in (values if isinstance(values, list) else [values])
    ]
    indices = range(len(classes))
    if refused := [value for value in numbers if isinstance(value, str) or (classes and value not in indices)]:
        expected = f"from {', '.join(classes)}, or their indices" if classes else "numbers"
        raise UserError(f"condition {attribute.name} ({refused}) must be {expected}; correct it")
    return torch.tensor(numbers, dtype=torch.float32)
