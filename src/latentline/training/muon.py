"""The optimizer Muon (Jordan et al., https://kellerjordan.github.io/posts/muon, 2024) beside AdamW."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latentline.runtime.sharding import full_tensor, is_sharded, shard_like

_MOMENTUM = 0.95  # of Jordan et al.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of their quintic iteration
_STEPS_OF_A_GRAM_MATRIX = (2, 3)
_RMS = 0.2  # root mean square of an update, about that of AdamW's


class Muon(torch.optim.AdamW):
    """Move some weights along the orthogonalised momentum of their gradients, and all others as AdamW does.

    An update of a matrix has singular values near 1: no direction is left behind because its gradient is small. It is
    scaled to the size of AdamW's updates (Liu et al., arXiv 2502.16982, eq. 4), so that one learning rate and one
    weight decay serve both. The kernel of a convolution, (C_out, C_in, k, k), is a matrix of C_out rows.

    Args:
        matrices: weights with at least two axes, between the first and the last layer of a network.
        others: all other weights.
        lr: learning rate of both.
        betas: of AdamW.
        weight_decay: decoupled, of both.
        dtype: in which momenta are orthogonalised, float32 or bfloat16.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [{"params": list(others)}, {"params": list(matrices)}]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self._dtype = dtype
        self._shapes: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in groups[1]["params"]:
            self._shapes[len(parameter), parameter[0].numel()].append(parameter)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step; where ``found_inf`` is set, as torch's GradScaler sets it, the device skips it."""
        gradients = {parameter: parameter.grad for parameter in self.param_groups[1]["params"]}
        for parameter in gradients:
            parameter.grad = None  # AdamW passes over it
        super().step(closure)
        group, found_inf = self.param_groups[1], getattr(self, "found_inf", None)
        for shape, parameters in self._shapes.items():
            moved = tuple(parameter for parameter in parameters if gradients[parameter] is not None)
            if not moved:
                continue
            for parameter in moved:
                if "momentum" not in self.state[parameter]:
                    # Without a step AdamW does not load the state.
                    self.state[parameter] |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
            momenta = tuple(self.state[parameter]["momentum"] for parameter in moved)
            # Sharded ones are gathered, since an update depends on the whole matrix. (N, rows, columns) each.
            gradient = torch.stack([full_tensor(gradients[parameter]).reshape(shape) for parameter in moved])
            momentum = torch.stack([full_tensor(one).reshape(shape) for one in momenta])
            taken = gradient.new_ones(()) if found_inf is None else 1 - found_inf
            gradient = gradient.where(taken > 0, 0)
            momentum = momentum.lerp(gradient, (1 - _MOMENTUM) * taken)
            nesterov = gradient.lerp(momentum, _MOMENTUM)
            update = orthogonalised(nesterov.to(self._dtype)).to(nesterov.dtype)
            rate = group["lr"] * taken
            scaled = update * (rate * _RMS * max(shape) ** 0.5)
            # All of a shape at once: a GPU takes longer to start a small kernel than to compute it.
            torch._foreach_mul_(moved, 1 - rate * group["weight_decay"])
            torch._foreach_sub_(moved, _parts(scaled, moved))
            torch._foreach_copy_(momenta, _parts(momentum, moved))
            for parameter in moved:
                parameter.grad = gradients[parameter]


def _parts(stacked: Tensor, parameters: tuple[nn.Parameter, ...]) -> tuple[Tensor, ...]:
    """Return rows (N, rows, columns) in the shapes of the parameters, each sharded as its own."""
    rows = (row.reshape(like.shape) for row, like in zip(stacked, parameters, strict=True))
    return tuple(shard_like(row, like) if is_sharded(like) else row for row, like in zip(rows, parameters, strict=True))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices (N, rows, columns) with about the same singular vectors, and singular values from 0.7 to 1.2.

    Five steps of a Newton-Schulz iteration; a zero matrix stays zero. A step multiplies X by a polynomial of its Gram
    matrix G = X X^T, which commutes with G. So steps go over G and their product Q alone, and only Q X touches the
    longer axis: half the time for kernels of 64 x 576. In bfloat16 the error in G grows from step to step, so G is
    computed anew after two.
    """
    x = matrices / (torch.linalg.matrix_norm(matrices)[:, None, None] + 1e-7)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    for steps in _STEPS_OF_A_GRAM_MATRIX:
        gram = x @ x.mT  # (N, r, r) with the fewer rows or columns r
        product = factor = _factor(gram)
        for _ in range(steps - 1):
            gram = factor @ gram @ factor
            factor = _factor(gram)
            product = factor @ product
        x = product @ x
    return x if wide else x.mT


def _factor(gram: Tensor) -> Tensor:
    """Return the polynomial (N, r, r) of Gram matrices (N, r, r) that one step multiplies by."""
    a, b, c = _COEFFICIENTS
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor
