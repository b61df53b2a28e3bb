"""Section ``evaluate``: the scores that need the judge."""

from typing import Literal

from latentline.core.params import Count, Positive, Section


class BayesParams(Section):
    """Classification of test images by the denoiser, told one class after the other."""

    count: Count
    """Test images, at most (seeded choice among those that the judge looks at); 0 = off."""
    method: Literal["denoising", "inversion", "likelihood"]
    """What stands for log p(z0 | class): errors of denoising; the density of the noise that the ODE leads to; the same with the flow's divergence."""
    steps: Positive
    """Times of ``denoising``, one evaluation each; Heun steps of the others, two evaluations each. For every class."""
    weighting: Literal["z0_early", "noise", "elbo"]
    """What errors of ``denoising`` count at each time: errors of z0, less with more noise; errors of the noise alike; or as in the likelihood."""
    probes: Positive
    """Random directions in which ``likelihood`` measures the divergence; each costs a backward pass per evaluation."""


class EvaluateParams(Section):
    """Knobs of stage ``evaluate``."""

    max_images: Positive | None
    """Images of each set that the judge looks at, at most; None = all."""
    neighbours: Positive
    """k of precision, recall, density and coverage."""
    pair_count: Positive
    """Images of each set that scores of pairs (those four, kernel distance, nearest-train distance) look at, at most."""
    classification_accuracy_score: bool
    """Train another judge on the samples, and one on as many training images, and test both on real images."""
    bayes: BayesParams
