"""Latentline: latent diffusion from scratch as a reproducible DVC pipeline.

``from latentline import load`` gives the networks of a finished run: see :mod:`latentline.trained_model`.

Packages, in the order of the data: ``data`` (images), ``autoencoders`` (pixels <-> latents), ``latents`` (the cache),
``diffusion`` and ``denoisers``, ``samplers``, ``probes`` and ``editing``, ``feature_extractors`` and ``evaluation``,
``figures``. The stages of the pipeline are in ``stages/``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentline.trained_model import TrainedModel, load

__all__ = ["TrainedModel", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since every stage imports this package and must not depend on all of it."""
    if name in __all__:
        return getattr(importlib.import_module("latentline.trained_model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
