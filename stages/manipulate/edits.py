"""What an edit leaves as it was."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentline.core.attributes import Column


def unchanged(columns: Sequence[Column], before: Tensor, after: Tensor) -> Tensor:
    """Which values (N, A) of ``columns`` are the same before and after, bool (N, A): equal, of a number within half a standard deviation."""
    tolerance = torch.tensor([column.std / 2 if column.kind == "continuous" else 0.0 for column in columns])  # (A,)
    return (before - after).abs() <= tolerance
