"""Codecs: pixels <-> latents.

A codec is an ``nn.Module`` with ``latent_shape``, ``encode(x, generator=None) -> z``, ``decode(z, noise=None) -> x`` (both
differentiable; x in [-1, 1]) and ``loss(x, generator, step=None) -> (loss, terms, reconstruction)``, its training objective. Where it
has something to train, its ``decoder`` writes the pixels. A codec with a ``noise_shape`` decodes from noise too, which holds what the latent
does not say of the image; its ``invert(x, z) -> noise`` finds it.
"""
