"""Deprecated: use ``from latentline import load``."""

import warnings

from latentline.trained_model import TrainedModel, load

__all__ = ["TrainedModel", "load"]

warnings.warn("latentline.pipeline.library is deprecated; use `from latentline import load`", DeprecationWarning, stacklevel=2)
