"""Linear probes of latents, fitted by scikit-learn, one model per class by L-BFGS. Features are float32 (N, F)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.core.attributes import Attribute, split_logits

Logistic = Literal["multinomial", "one_vs_rest"]
CANDIDATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of scikit-learn's C that :func:`choose_probe` compares."""
_ABSENT_CLASS_BIAS = -1e6  # logit of a class without a training image


@dataclass(frozen=True)
class Probe:
    """A linear map from features to the logits of :class:`~latentline.core.attributes.Attribute`."""

    weight: Tensor  # (K, F)
    bias: Tensor  # (K,)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits (N, K) of features (N, F)."""
        return features @ self.weight.T + self.bias


def fit_probe(
    attribute: Attribute,
    features: Tensor,
    values: Tensor,
    logistic: Logistic,
    inverse_regularization: float,
    max_iterations: int,
) -> Probe:
    """Fit the probe of one attribute; its weights are zeros where all values are the same, or where there is none.

    Args:
        attribute: what the probe predicts.
        features: (N, F).
        values: ground truth (N,); none is missing.
        logistic: of a categorical attribute: one model of all classes, or one of each class against all others.
        inverse_regularization: scikit-learn's C; of a continuous attribute 1 / alpha.
        max_iterations: upper limit of solver iterations.
    """
    # Imported here, since it takes seconds and must follow the setting of the thread count.
    from sklearn.linear_model import LogisticRegression, Ridge

    if not len(values):
        return Probe(torch.zeros(attribute.num_logits, features.shape[1]), torch.zeros(attribute.num_logits))
    if attribute.kind == "continuous":
        standardised = ((values - attribute.mean) / attribute.std).numpy()
        ridge = Ridge(alpha=1 / inverse_regularization).fit(features.numpy(), standardised)
        return Probe(torch.from_numpy(ridge.coef_)[None].float(), torch.tensor([ridge.intercept_]).float())
    num_classes, present = len(attribute.classes) or 2, np.unique(values.numpy()).astype(int)
    weight = torch.zeros(num_classes, features.shape[1])  # (classes, F)
    bias = torch.full((num_classes,), _ABSENT_CLASS_BIAS)
    bias[present] = 0
    if len(present) > 1:
        one_vs_rest = attribute.classes and logistic == "one_vs_rest"
        if one_vs_rest and len(present) > 2:
            truth = (values[:, None] == torch.from_numpy(present)).float()  # (N, classes)
            normals, offsets = _one_vs_rest(features, truth, inverse_regularization, max_iterations)
        else:
            model = LogisticRegression(C=inverse_regularization, max_iter=max_iterations).fit(
                features.numpy(), values.numpy().astype(int)
            )
            normals, offsets = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
        if len(present) == 2:  # scikit-learn fits one logit: the difference of two, or the class's own
            normals, offsets = (torch.cat([-part, part]) / (1 if one_vs_rest else 2) for part in (normals, offsets))
        weight[present], bias[present] = normals, offsets
    return Probe(weight, bias) if attribute.classes else Probe(weight[1:] - weight[:1], bias[1:] - bias[:1])


def _one_vs_rest(
    features: Tensor, truth: Tensor, inverse_regularization: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """Fit a logistic model of each class against all others: weights (K, F) and biases (K,).

    The objective and the tolerance are scikit-learn's. All classes are fitted at once: one matrix product instead of a
    pass over the features for each.

    Args:
        features: (N, F).
        truth: 0 or 1, (N, K).
        inverse_regularization: scikit-learn's C.
        max_iterations: upper limit of solver iterations.
    """
    parameters = torch.zeros(truth.shape[1], features.shape[1] + 1, requires_grad=True)  # (K, F + 1)
    solver = torch.optim.LBFGS(
        [parameters], max_iter=max_iterations, tolerance_grad=1e-4, tolerance_change=0, line_search_fn="strong_wolfe"
    )

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
    attribute: Attribute,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    logistic: Logistic,
    max_iterations: int,
) -> tuple[Probe, float]:
    """Return the probe with the lowest loss on validation images, and its C, one of ``CANDIDATES``.

    Args:
        attribute: what the probe predicts.
        train: features (N, F) and values (N,) to fit on; none is missing.
        val: features (M, F) and values (M,), M > 0; the loss is the squared error or the negative log-likelihood.
        logistic: see :func:`fit_probe`.
        max_iterations: upper limit of solver iterations.
    """
    from sklearn.exceptions import ConvergenceWarning

    fitted = []
    with warnings.catch_warnings():
        # Early stopping regularises too; the validation loss accounts for it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for candidate in CANDIDATES:
            probe = fit_probe(attribute, *train, logistic, candidate, max_iterations)
            fitted.append((_loss(attribute, probe(val[0]), val[1], logistic), candidate, probe))
    _, chosen, probe = min(fitted, key=lambda one: one[:2])
    return probe, chosen


def partly_fitted(attributes: Sequence[Attribute], bias: Tensor) -> dict[str, int]:
    """Return how many classes a probe with ``bias`` (K,) can predict, by name, where it cannot predict all of them."""
    parts = zip(attributes, split_logits(attributes, bias[None]), strict=True)
    fitted = {attribute: int((part != _ABSENT_CLASS_BIAS).sum()) for attribute, part in parts}
    return {attribute.name: count for attribute, count in fitted.items() if count < len(attribute.classes)}


def probabilities(attribute: Attribute, logits: Tensor, logistic: Logistic) -> Tensor:
    """Return probabilities float64 (N, classes) for logits (N, K) of a probe; of a binary attribute (N, 2)."""
    exact = logits.double()
    if not attribute.classes:
        return torch.cat([-exact, exact], dim=1).sigmoid()  # (N, 2)
    if logistic == "multinomial":
        return exact.softmax(dim=1)
    each = exact.sigmoid()  # (N, classes): of each class against all others
    return each / each.sum(dim=1, keepdim=True)


def pooling(latents: Tensor) -> Tensor:
    """Return the matrix (F, C) from flat latents to each channel's mean over its positions.

    The means have unit variance over ``latents`` (N, C, H, W) or (N, D). The transpose takes a direction among such
    means back to the flat latent, equal at all positions.
    """
    positions = latents[0, 0].numel()
    means = latents.flatten(1).unflatten(1, (-1, positions)).mean(dim=2)  # (N, C)
    spread = means.std(dim=0)  # (C,): below 1, since a mean varies less than its terms
    scale = spread.where(spread > 0, spread.new_ones(()))
    return torch.diag(1 / scale).repeat_interleave(positions, dim=0) / positions  # (F, C)


def _loss(attribute: Attribute, logits: Tensor, values: Tensor, logistic: Logistic) -> float:
    if attribute.kind == "continuous":
        return float(attribute.loss(logits, values))
    true = probabilities(attribute, logits, logistic).gather(1, values.long()[:, None])  # (N, 1)
    return float(-true.clamp(min=1e-12).log().mean())
