"""Linear probes of latents, all but one kind fitted by scikit-learn. Features are float32 (N, F)."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.attributes import Column

Logistic = Literal["multinomial", "one_vs_rest"]
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse ones, to choose from
_NEVER = -1e6  # output for a class without a training image


@dataclass(frozen=True)
class Probe:
    """A linear map whose outputs mean what ``Column`` says."""

    weight: Tensor  # (outputs, F)
    bias: Tensor  # (outputs,)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, F) -> outputs (N, outputs)."""
        return features @ self.weight.T + self.bias


def fit_probe(column: Column, features: Tensor, known: Tensor, logistic: Logistic, inverse_regularization: float, max_iterations: int) -> Probe:
    """The probe of one column; its weights are zeros where nothing could be learnt.

    Args:
        column: what is to be told.
        features: (N, F).
        known: the column's values (N,).
        logistic: of a categorical column: one model of all classes, or one of each class against the others.
        inverse_regularization: scikit-learn's C; of a continuous column 1 / alpha.
        max_iterations: of the solver, at most.
    """
    from sklearn.linear_model import LogisticRegression, Ridge  # after the thread count is fixed; and it takes seconds to import

    if column.kind == "continuous":
        ridge = Ridge(alpha=1 / inverse_regularization).fit(features.numpy(), ((known - column.mean) / column.std).numpy())
        return Probe(torch.from_numpy(ridge.coef_)[None].float(), torch.tensor([ridge.intercept_]).float())
    kinds, present = len(column.classes) or 2, np.unique(known.numpy()).astype(int)
    weight, bias = torch.zeros(kinds, features.shape[1]), torch.full((kinds,), _NEVER)  # (kinds, F), (kinds,)
    bias[present] = 0
    if len(present) > 1:
        one_vs_rest = column.classes and logistic == "one_vs_rest"
        if one_vs_rest and len(present) > 2:
            truth = (known[:, None] == torch.from_numpy(present)).float()  # (N, classes)
            normals, offsets = _one_vs_rest(features, truth, inverse_regularization, max_iterations)
        else:
            model = LogisticRegression(C=inverse_regularization, max_iter=max_iterations).fit(features.numpy(), known.numpy().astype(int))
            normals, offsets = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
        if len(present) == 2:  # of which scikit-learn fits one logit: the difference of two, or either's own
            normals, offsets = (torch.cat([-part, part]) / (1 if one_vs_rest else 2) for part in (normals, offsets))
        weight[present], bias[present] = normals, offsets
    return Probe(weight, bias) if column.classes else Probe(weight[1:] - weight[:1], bias[1:] - bias[:1])


def _one_vs_rest(features: Tensor, truth: Tensor, inverse_regularization: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """A logistic model of each class against the others, from features (N, F) and truth (N, K): weights (K, F) and biases (K,).

    scikit-learn's objective and tolerance, but all classes at once: one product of matrices instead of a pass over the features for each.
    """
    parameters = torch.zeros(truth.shape[1], features.shape[1] + 1, requires_grad=True)  # (K, F + 1)
    solver = torch.optim.LBFGS([parameters], max_iter=max_iterations, tolerance_grad=1e-4, tolerance_change=0, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        weight, bias = parameters[:, :-1], parameters[:, -1]
        penalty = weight.square().sum() / (2 * inverse_regularization)
        total = F.binary_cross_entropy_with_logits(features @ weight.T + bias, truth, reduction="sum") + penalty
        loss = total / len(features)
        loss.backward()
        return loss

    solver.step(objective)
    return parameters[:, :-1].detach(), parameters[:, -1].detach()


def choose_probe(
    column: Column, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], logistic: Logistic, max_iterations: int
) -> tuple[Probe, float]:
    """The probe with the least loss on validation images, and its inverse regularisation, one of ``STRENGTHS``.

    Args:
        column: what is to be told.
        train: features (N, F) and values (N,) to fit on.
        val: the same to choose on: by squared error, or by minus the logarithm of the true class's probability.
        logistic: see :func:`fit_probe`.
        max_iterations: of the solver, at most.
    """
    from sklearn.exceptions import ConvergenceWarning

    fitted = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early regularises too: the loss judges it
        for strength in STRENGTHS:
            probe = fit_probe(column, *train, logistic, strength, max_iterations)
            fitted.append((_loss(column, probe(val[0]), val[1], logistic), strength, probe))
    _, strength, probe = min(fitted, key=lambda one: one[:2])
    return probe, strength


def probabilities(column: Column, outputs: Tensor, logistic: Logistic) -> Tensor:
    """Outputs (N, outputs) of a probe of classes -> probabilities float64 (N, classes); of a binary column (N, 2)."""
    exact = outputs.double()
    if not column.classes:
        return torch.cat([-exact, exact], dim=1).sigmoid()  # (N, 2)
    if logistic == "multinomial":
        return exact.softmax(dim=1)
    each = exact.sigmoid()  # (N, classes): of each class against the others
    return each / each.sum(dim=1, keepdim=True)


def pooling(latents: Tensor) -> Tensor:
    """The matrix (F, C) from flat latents to each channel's mean over all positions, of unit variance over ``latents`` (N, C, H, W) or (N, D).

    Its transpose takes directions among such means back to the flat latent, all positions alike.
    """
    positions = latents[0, 0].numel()
    spread = latents.flatten(1).unflatten(1, (-1, positions)).mean(dim=2).std(dim=0)  # (C,): means vary less than what they are means of
    scale = spread.where(spread > 0, spread.new_ones(()))
    return torch.diag(1 / scale).repeat_interleave(positions, dim=0) / positions  # (F, C)


def _loss(column: Column, outputs: Tensor, known: Tensor, logistic: Logistic) -> float:
    if column.kind == "continuous":
        return float(column.loss(outputs, known))
    true = probabilities(column, outputs, logistic).gather(1, known.long()[:, None])  # (N, 1)
    return float(-true.clamp(min=1e-12).log().mean())
