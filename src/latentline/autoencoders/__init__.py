"""Autoencoders: pixels <-> latents.

An autoencoder is an ``nn.Module`` with ``latent_shape``, ``encode(x, generator=None) -> z`` and
``decode(z, noise=None) -> x``, both differentiable, x in [-1, 1]. Its training objective is
``loss(x, generator, step=None) -> (loss, terms, reconstruction)``. Where it trains at all, its ``decoder`` writes the
pixels.

An autoencoder with a ``noise_shape`` decodes from a latent and noise. The noise carries the details that the latent
lacks; ``invert(x, z) -> noise`` finds it.
"""
