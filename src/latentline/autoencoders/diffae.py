"""The diffusion autoencoder (Preechakul et al., arXiv 2111.15640).

The encoder gives a semantic vector. A diffusion model conditioned on it writes the image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latentline.autoencoders.ae import AE
from latentline.autoencoders.base import Autoencoder, in_weights_dtype
from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.diffusion.euler import euler
from latentline.diffusion.inversion import invert
from latentline.diffusion.objective import denoising_loss, sample_times
from latentline.diffusion.process import DenoiserModel, build_process, conditional_model
from latentline.diffusion.sdedit import sdedit
from latentline.diffusion.time_grid import time_grid
from latentline.nn.unet import UNet


class DiffAE(Autoencoder):
    """Autoencoder whose latent z is a semantic vector; the noise x_T carries the remaining details of an image.

    ``encode(x)`` gives z, ``invert(x, z)`` gives x_T, and ``decode(z, x_T)`` gives the image again, almost exactly.
    With another x_T it gives another image of the same z. Decoding is deterministic DDIM (the paper's section 3.1).
    Inverting runs the same steps upwards (its section 3.3). Gradients flow through all three.

    Diffusion takes place in the standardised latents of ``inner``; for the identity, in pixels.

    Args:
        inner: an autoencoder whose latents are maps. It does not train here.
        image_shape: (C, H, W) of the images; any H and W.
        embedding_dim: D, length of z.
        encoder_channels: width of each level of the semantic encoder, from the image down; each level halves the map.
        encoder_blocks: residual blocks of each level.
        channels: width of each level of the decoder's U-Net; every further level halves the map.
        blocks: its residual blocks per level on the way down; one more on the way up.
        attention_levels: its levels with self-attention.
        patch_size: its first folding of pixels into channels.
        condition_width: length of the vector that embeds time and z. It scales and shifts every residual block (AdaGN,
            the paper's section 3.2).
        path: noise path.
        prediction: what the U-Net predicts.
        sample_timesteps: steps of decoding and of inverting, one evaluation each.
    """

    noise_shape: tuple[int, ...]

    def __init__(
        self,
        inner: Autoencoder,
        *,
        image_shape: Sequence[int],
        embedding_dim: int,
        encoder_channels: Sequence[int],
        encoder_blocks: Sequence[int],
        channels: Sequence[int],
        blocks: int,
        attention_levels: Sequence[int],
        patch_size: int,
        condition_width: int,
        path: str,
        prediction: str,
        sample_timesteps: int,
    ) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.latent_shape = (embedding_dim,)
        self.noise_shape = inner.latent_shape
        self.sample_timesteps = sample_timesteps
        with torch.device("cpu"):  # also where the network itself is built on the meta device
            self._times = time_grid(sample_timesteps).tolist()  # floats: torch.compile makes one graph of all steps
        self.process = build_process(path, prediction)
        self.encoder = plain_autoencoder(image_shape, embedding_dim, encoder_channels, encoder_blocks).encoder
        self.decoder = UNet(
            inner.latent_shape, embedding_dim, channels, blocks, attention_levels, patch_size, condition_width
        )
        per_channel = (inner.latent_shape[0], *[1] * (len(inner.latent_shape) - 1))
        self.register_buffer("mean", torch.zeros(per_channel))
        self.register_buffer("std", torch.ones(per_channel))
        own_noise = torch.randn(inner.latent_shape, generator=generator(0, "diffae", "noise"))
        self.register_buffer("own_noise", own_noise, persistent=False)

    def adopt_inner(self, trained: Autoencoder, latents: Tensor) -> None:
        """Copy the weights of ``trained`` into ``inner``, and standardise by the moments of its latents from now on.

        Args:
            trained: built with the arguments of ``inner``.
            latents: (N, *inner.latent_shape), of training images.
        """
        self.inner.load_state_dict(trained.state_dict())
        axes = (0, *range(2, latents.ndim))
        self.get_buffer("mean").copy_(latents.mean(axes).view_as(self.get_buffer("mean")))
        self.get_buffer("std").copy_(latents.std(axes, correction=0).view_as(self.get_buffer("std")))

    def adopt_encoder(self, trained: AE) -> None:
        """Copy and freeze the encoder of ``trained``, which :func:`plain_autoencoder` built from the same arguments."""
        self.encoder.load_state_dict(trained.encoder.state_dict())
        self.encoder.requires_grad_(False)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`Autoencoder.encode`; takes no random numbers."""
        return in_weights_dtype(self.encoder, x)

    def decode(self, z: Tensor, noise: Tensor | None = None, *, steps: int | None = None) -> Tensor:
        """See :meth:`Autoencoder.decode`; in ``steps`` equal steps, None = ``sample_timesteps``."""
        if noise is None:
            noise = self.get_buffer("own_noise").to(z.dtype).expand(len(z), *self.noise_shape)
        return self._restored(euler(self._model(z), noise, self._grid(steps)))

    def invert(self, x: Tensor, z: Tensor, *, steps: int | None = None) -> Tensor:
        """See :meth:`Autoencoder.invert`; in ``steps`` equal steps, None = ``sample_timesteps``."""
        return invert(euler, self._model(z), self._standardised(x), self._grid(steps))

    def sdedit(self, x: Tensor, z: Tensor, t: float, noise: Tensor) -> Tensor:
        """See :meth:`Autoencoder.sdedit`; with about the step size of decoding."""
        return self._restored(
            sdedit(euler, self._model(z), self._standardised(x), noise, t, math.ceil(t * self.sample_timesteps))
        )

    def sample_training_noise(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return times (count,) and noise (count, *noise_shape); see :meth:`Autoencoder.sample_training_noise`."""
        t, noise = torch.empty(count), torch.empty(count, *self.noise_shape)
        for row in range(count):
            t[row : row + 1] = sample_times(1, "uniform", generator)
            noise[row].normal_(generator=generator)
        return t, noise

    def loss(
        self, x: Tensor, noise: tuple[Tensor, ...], step: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return the denoising loss at uniform times (the paper's section 3.1).

        The reconstruction is None, since it would take all of the sampler's steps.
        """
        x0 = self._standardised(x)
        t, x_noise = noise
        loss = denoising_loss(self.decoder, self.process, x0, Condition(self.encode(x)), t, x_noise).mean()
        return loss, {"loss": loss}, None

    def _grid(self, steps: int | None) -> list[float]:
        return self._times if steps is None else time_grid(steps).tolist()

    def _model(self, z: Tensor) -> DenoiserModel:
        return conditional_model(self.decoder, self.process, Condition(z))

    def _standardised(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the space of the diffusion, (B, *noise_shape)."""
        return (self.inner.encode(x) - self.get_buffer("mean")) / self.get_buffer("std")

    def _restored(self, state: Tensor) -> Tensor:
        """Invert :meth:`_standardised`."""
        return self.inner.decode(state * self.get_buffer("std") + self.get_buffer("mean"))  # (B, C, H, W)


def plain_autoencoder(
    image_shape: Sequence[int], embedding_dim: int, encoder_channels: Sequence[int], encoder_blocks: Sequence[int]
) -> AE:
    """Build an autoencoder of the semantic encoder and its mirror, which trains the encoder before the diffusion."""
    return AE(
        image_shape,
        latent_dim=embedding_dim,
        latent_channels=encoder_channels[-1],
        encoder_channels=encoder_channels,
        encoder_blocks=encoder_blocks,
        decoder_channels=encoder_channels,
        decoder_blocks=encoder_blocks,
    )
