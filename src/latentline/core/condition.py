"""What a denoiser is conditioned on: a vector, and a sequence of tokens where there is one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor


class Condition(NamedTuple):
    """The condition of B examples. A named tuple, since torch's hooks look for tensors inside of tuples.

    The null condition of classifier-free guidance (Ho and Salimans, arXiv 2207.12598) is a vector of zeros and a mask without a token.
    """

    vector: Tensor
    """(B, F); F = 0 for an unconditional denoiser."""
    tokens: Tensor | None = None
    """(B, L, D)."""
    mask: Tensor | None = None
    """bool (B, L): where ``tokens`` holds a token and not padding."""

    @property
    def size(self) -> int:
        """B."""
        return len(self.vector)

    def rows(self, rows: Tensor | slice) -> "Condition":
        """Return the condition of some examples: int64 (b,) or a slice."""
        return self._map(lambda part: part[rows])

    def to(self, device: torch.device | str) -> "Condition":
        """Return the same on ``device``."""
        return self._map(lambda part: part.to(device))

    def null(self) -> "Condition":
        """Return the null condition, of the same shapes."""
        return self.dropped(torch.ones(self.size, dtype=torch.bool, device=self.vector.device))

    def dropped(self, drop: Tensor) -> "Condition":
        """Replace the condition of the examples where ``drop``, bool (B,), is true by the null condition."""
        mask = None if self.mask is None else self.mask & ~drop[:, None]
        return Condition(self.vector.masked_fill(drop[:, None], 0), self.tokens, mask)

    def expanded(self, count: int) -> "Condition":
        """Return the condition of ``count`` examples, of one that holds for all of them or for each."""
        return self._map(lambda part: part.expand(count, *part.shape[1:]))

    def repeated(self, times: int) -> "Condition":
        """Return each example's condition ``times`` times, one after the other."""
        return self._map(lambda part: part.repeat_interleave(times, dim=0))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        tokens, mask = (None if part is None else change(part) for part in (self.tokens, self.mask))
        return Condition(change(self.vector), tokens, mask)


def concatenate(conditions: Sequence[Condition]) -> Condition:
    """Join conditions of the same kind, one batch after another."""
    vector, tokens, mask = (torch.cat(part) if part[0] is not None else None for part in zip(*conditions, strict=True))
    return Condition(cast(Tensor, vector), tokens, mask)
