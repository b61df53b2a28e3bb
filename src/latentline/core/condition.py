"""The condition of a denoiser: a vector, and a sequence of tokens where there is one. Several, mixed with weights."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor


class Condition(NamedTuple):
    """The condition of B examples. It is a named tuple, so that torch's hooks and pytrees find the tensors in it.

    The null condition of classifier-free guidance (Ho and Salimans, arXiv 2207.12598) is a vector of zeros and, where
    there are tokens, a mask without a token.
    """

    vector: Tensor
    """(B, F); F = 0 for an unconditional denoiser."""
    tokens: Tensor | None = None
    """(B, L, D); or integers (B, L), the ids of tokens that a text encoder still has to map; None = no tokens."""
    mask: Tensor | None = None
    """bool (B, L): True for a token, False for padding; None = every token counts."""

    @property
    def size(self) -> int:
        """Number B of examples."""
        return len(self.vector)

    def tensors(self) -> dict[str, Tensor]:
        """Return the parts that there are, by their names as arguments."""
        return {name: part for name, part in self._asdict().items() if part is not None}

    def rows(self, rows: Tensor | slice) -> "Condition":
        """Return the condition of some examples: int64 (b,) or a slice."""
        return self._map(lambda part: part[rows])

    def to(self, device: torch.device | str) -> "Condition":
        """Return the condition on ``device``."""
        return self._map(lambda part: part.to(device))

    def null(self) -> "Condition":
        """Return the null condition of B examples."""
        return self.dropped(torch.ones(self.size, dtype=torch.bool, device=self.vector.device))

    def dropped(self, drop: Tensor) -> "Condition":
        """Return the condition with the null condition for the examples where ``drop``, bool (B,), is True."""
        mask = self._full_mask()
        kept = None if mask is None else mask & ~drop[:, None]
        return Condition(self.vector.masked_fill(drop[:, None], 0), self.tokens, kept)

    def expanded(self, count: int) -> "Condition":
        """Return the condition of ``count`` examples, from that of one example or of each."""
        return self._map(lambda part: part.expand(count, *part.shape[1:]))

    def repeated(self, times: int) -> "Condition":
        """Return each example's condition ``times`` times, one after the other."""
        return self._map(lambda part: part.repeat_interleave(times, dim=0))

    def _full_mask(self) -> Tensor | None:
        """Return the mask; without one, that of all tokens."""
        if self.tokens is None or self.mask is not None:
            return self.mask
        return torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=self.tokens.device)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        tokens, mask = (None if part is None else change(part) for part in (self.tokens, self.mask))
        return Condition(change(self.vector), tokens, mask)


def concatenate(conditions: Sequence[Condition]) -> Condition:
    """Return one condition of all examples. Either all ``conditions`` have tokens, of one length L, or none has."""
    if any(condition.mask is not None for condition in conditions):
        conditions = [condition._replace(mask=condition._full_mask()) for condition in conditions]
    vector, tokens, mask = (torch.cat(part) if part[0] is not None else None for part in zip(*conditions, strict=True))
    return Condition(cast(Tensor, vector), tokens, mask)


class Mixture(NamedTuple):
    """Several conditions, each of B examples, with weights (Liu et al., arXiv 2206.01714).

    The mixed prediction is that of the null condition, plus ``weight`` times what each condition changes of it.
    """

    conditions: tuple[Condition, ...]
    weights: tuple[float, ...]
    """One for each condition; below 0 = away from it."""

    @property
    def size(self) -> int:
        """Number B of examples."""
        return self.conditions[0].size

    def to(self, device: torch.device | str) -> "Mixture":
        """Return the mixture on ``device``."""
        return self._replace(conditions=tuple(condition.to(device) for condition in self.conditions))

    def null(self) -> Condition:
        """Return the null condition of B examples."""
        return self.conditions[0].null()

    def expanded(self, count: int) -> "Mixture":
        """Return the mixture for ``count`` examples, from that for one example or for each."""
        return self._replace(conditions=tuple(condition.expanded(count) for condition in self.conditions))
