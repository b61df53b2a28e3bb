"""Codecs: pixels <-> latents.

A codec is an ``nn.Module`` with ``latent_shape``, ``encode(x) -> z``, ``decode(z, generator=None) -> x`` (both differentiable;
x in [-1, 1]) and ``loss(x, generator) -> (loss, terms, reconstruction)``, its training objective. Its
``decoder`` writes the pixels.
"""
