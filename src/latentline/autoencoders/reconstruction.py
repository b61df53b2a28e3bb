"""The reconstruction term of an autoencoder's loss."""

import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(kind: str, decoded: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean error per value of images (B, C, H, W) in [-1, 1]: ``l2`` squared, ``l1`` absolute.

    Absolute errors count a large one no more than several small ones of the same sum, so edges come out sharper and a few wrong
    pixels cost less. The mean squared error is among the terms either way, so that runs with either compare.
    """
    mse = F.mse_loss(decoded, x)
    if kind == "l2":
        return mse, {"mse": mse}
    l1 = F.l1_loss(decoded, x)
    return l1, {"l1": l1, "mse": mse.detach()}
