"""A diffusion autoencoder of 8x8 grey images, small enough to draw from in a test."""

from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.identity import Identity


def small_diffae(sample_timesteps: int) -> DiffAE:
    """Return a new autoencoder whose semantic vector has 4 numbers."""
    return DiffAE(
        Identity((1, 8, 8)),
        image_shape=(1, 8, 8),
        embedding_dim=4,
        encoder_channels=[8, 8],
        encoder_blocks=[1, 1],
        channels=[8],
        blocks=1,
        attention_levels=[],
        patch_size=1,
        condition_width=8,
        path="flow",
        prediction="velocity",
        sample_timesteps=sample_timesteps,
    )
