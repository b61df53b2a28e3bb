"""The reconstruction term of an autoencoder's loss."""

import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(kind: str, decoded: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean error per value of images (B, C, H, W), ``l2`` squared or ``l1`` absolute, and its terms.

    An absolute error weighs one large error like several small ones of the same sum, so edges come out sharper and
    outliers cost less. The mean squared error is among the terms either way, so that runs of both kinds compare.
    """
    mse = F.mse_loss(decoded, x)
    if kind == "l2":
        return mse, {"mse": mse}
    l1 = F.l1_loss(decoded, x)
    return l1, {"l1": l1, "mse": mse.detach()}
