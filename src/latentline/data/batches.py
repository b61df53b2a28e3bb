"""Batches of a training: a function of (seed, step) alone, so that any step can be the first after a restart."""

import torch
from torch import Tensor

from latentline.core.seeds import generator


def mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    """Return images (B, C, H, W), mirrored left to right where ``mirrored``, bool (B,), is True."""
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


class EpochSampler:
    """Seeded shuffles without replacement within an epoch; the incomplete last batch is dropped.

    Args:
        count: rows of the data set.
        batch_size: rows per step; a smaller data set gives one batch of all rows.
        seed: of the shuffles.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.steps_per_epoch = count // self.batch_size
        self._seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Return the rows int64 (batch_size,) of step ``step``, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(self.count, generator=generator(self._seed, "epoch", epoch))
            self._epoch = epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]
