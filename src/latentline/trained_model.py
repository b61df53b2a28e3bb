"""A finished run, used from Python.

::

    from latentline.trained_model import load

    model = load(".")  # the folder in which `dvc repro` ran
    z0 = model.encode(images)
    z_t = model.add_noise(images, t=0.7)
    images = model.decode(model.denoise(z_t, t=0.7, condition=model.condition(label="Sandal")))

Images are float (B, C, H, W) in [-1, 1]. Latents are standardised z0 (B, *latent_shape), as the denoiser and the probes see them, never the
autoencoder's raw ones: ``model.stats.normalizer`` goes from one to the other. t is in [0, 1]: 0 = data, 1 = noise. All networks are frozen,
but gradients flow through every method to its inputs. No stage imports this module.
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
from latentline.diffusion import partial_denoising as denoising
from latentline.diffusion.process import DenoiserModel
from latentline.latents.cache import LatentStats, read_stats

Value = str | float
"""Of a column: the name of a class, its index, or a number."""


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a run on their device, in evaluation mode; inputs are moved there, and results stay there. Build it with :func:`load`."""

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
        """Images (B, C, H, W) in [-1, 1] -> standardised latents z0 (B, *latent_shape); of a distribution, its mean.

        Raises:
            UserError: images of another shape or of whole numbers.
        """
        if images.shape[1:] != self.image_shape or not images.is_floating_point():
            raise UserError(
                f"images: {images.dtype} {tuple(images.shape)}; expected float in [-1, 1], (B, {', '.join(map(str, self.image_shape))}); "
                "`latentline.data.store.to_unit_range` makes them of bytes"
            )
        return self.stats.normalizer.standardise(self.autoencoder.network.encode(images.to(self.device)))

    def decode(self, z0: Tensor, noise: Tensor | None = None) -> Tensor:
        """Standardised latents z0 (B, *latent_shape) -> images (B, C, H, W), about in [-1, 1].

        ``noise`` is what a diffusion autoencoder begins with: x_T (B, *noise_shape) from :meth:`invert`, say; None = the same for all.
        """
        return self.autoencoder.network.decode(self._raw(z0), None if noise is None else noise.to(self.device))

    def invert(self, images: Tensor, z0: Tensor) -> Tensor:
        """The noise x_T (B, *noise_shape) from which :meth:`decode` of z0 gives images (B, C, H, W) in [-1, 1]; diffusion autoencoders only."""
        self._require_noise("invert")
        return self.autoencoder.network.invert(images.to(self.device), self._raw(z0))

    def sdedit(self, images: Tensor, z0: Tensor, t: float, seed: int = 0) -> Tensor:
        """Add noise to images (B, C, H, W) in [-1, 1] up to ``t`` and denoise them told z0, theirs or another; diffusion autoencoders only."""
        shape = self._require_noise("sdedit")
        noise = torch.randn((len(images), *shape), generator=generator(seed, "library")).to(self.device)
        return self.autoencoder.network.sdedit(images.to(self.device), self._raw(z0), _time(t), noise)

    def condition(self, **values: Value | Tensor | list[Value]) -> Condition:
        """Return a condition: ``condition(label="Sandal")``, ``condition(label=[0, 1, 2])``; without values the null condition.

        Args:
            values: all attributes that the denoiser is conditioned on, by name, or none: one value, or one for each of B images.

        Returns:
            The condition of B examples; of one where every attribute has one value, which then holds for any number of images.

        Raises:
            UserError: an unknown attribute or class, or an attribute that is left out.
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
        """Encode images (B, C, H, W) in [-1, 1] and add noise up to ``t``: z_t (B, *latent_shape); the same for the same seed."""
        return self.add_noise_to_latents(self.encode(images), t, seed)

    def add_noise_to_latents(self, z0: Tensor, t: float, seed: int = 0) -> Tensor:
        """Standardised latents z0 -> z_t at ``t`` in [0, 1], (B, *latent_shape) each; the same for the same seed."""
        self._check_latents("z0", z0)
        return denoising.noised(
            self._model(None, len(z0), 1.0), z0.to(self.device), self._noise(len(z0), seed), _time(t)
        )

    def estimate(
        self, z_t: Tensor, t: float, condition: Condition | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """The mean z0 of all data that could have become z_t, (B, *latent_shape) each: blurred where t is large. One evaluation.

        Arguments as of :meth:`denoise`.
        """
        self._check_latents("z_t", z_t)
        return denoising.estimate(self._model(condition, len(z_t), guidance_scale), z_t.to(self.device), _time(t))

    def denoise(
        self, z_t: Tensor, t: float, condition: Condition | None = None, steps: int = 16, guidance_scale: float = 1.0
    ) -> Tensor:
        """One z0 that could have become z_t, (B, *latent_shape) each.

        Args:
            z_t: at ``t``, whatever made it.
            t: in (0, 1].
            condition: from :meth:`condition`, of B examples or of one; None = the null condition.
            steps: of DPM-Solver++, evenly from t to 0; one network evaluation each, two with guidance.
            guidance_scale: of classifier-free guidance; 1 = off.
        """
        self._check_latents("z_t", z_t)
        if not 0 < t <= 1 or steps < 1:
            raise UserError(f"denoise: t {t}, steps {steps}; expected t in (0, 1] and at least one step; change it")
        return denoising.denoise(self._model(condition, len(z_t), guidance_scale), z_t.to(self.device), t, steps)

    def sample(
        self,
        count: int,
        condition: Condition | None = None,
        steps: int = 16,
        guidance_scale: float = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """New z0 (count, *latent_shape) from nothing but noise: :meth:`denoise` from t = 1."""
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
        """Shape of the noise that the autoencoder decodes from."""
        shape = self.autoencoder.network.noise_shape
        if shape is None:
            raise UserError(
                f"{method}: this run's autoencoder decodes without noise; expected autoencoder.name diffae; train one"
            )
        return shape

    def _check_latents(self, name: str, latents: Tensor) -> None:
        if latents.shape[1:] != self.latent_shape:
            expected = f"(B, {', '.join(map(str, self.latent_shape))})"
            raise UserError(
                f"{name}: {tuple(latents.shape)}; expected {expected}, standardised; model.encode makes them of images"
            )


def load(root: Path | str = ".", device: str = "cpu") -> TrainedModel:
    """The model of the run in folder ``root``; without a denoiser's checkpoint it encodes and decodes all the same.

    Raises:
        UserError: a file is missing or damaged, or was made by another autoencoder than the others.
    """
    root, place = Path(root), torch.device(device)
    autoencoder, stats = load_autoencoder(place, root), read_stats(root)
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(place, stats, root) if (root / DENOISER).exists() else None
    return TrainedModel(autoencoder, stats, denoiser, place)


def _time(t: float) -> float:
    if not 0 <= t <= 1:
        raise UserError(f"t: {t}; expected 0 (data) to 1 (noise); change it")
    return t


def _numbers(column: Attribute, values: Value | Tensor | list[Value]) -> Tensor:
    """Values of a column as numbers (B,)."""
    given = (
        values.flatten().tolist() if isinstance(values, Tensor) else values if isinstance(values, list) else [values]
    )
    numbers = [
        column.classes.index(value) if isinstance(value, str) and value in column.classes else value for value in given
    ]
    kinds = range(len(column.classes))
    if refused := [value for value in numbers if isinstance(value, str) or (kinds and value not in kinds)]:
        raise UserError(
            f"condition: {column.name}: {refused}; expected {', '.join(column.classes) or 'numbers'}; correct it"
        )
    return torch.tensor(numbers, dtype=torch.float32)
