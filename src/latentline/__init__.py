"""Latentline: latent diffusion from scratch as a reproducible DVC pipeline.

Packages, in the order of the data: ``data`` (images) -> ``codecs`` (pixels <-> latents) -> ``latents`` (the cache) ->
``diffusion`` and ``models`` (denoisers) -> ``editing`` (directions) -> ``evaluation`` and ``figures``. ``pipeline`` joins them,
one module per DVC stage. ``tests/test_architecture.py`` states which package may import which.
"""
