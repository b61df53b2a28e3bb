"""Section ``evaluate``: the metrics that need the feature extractor."""

from typing import Literal

from latentline.core.params import Count, Positive, Section


class BayesParams(Section):
    """Classification of test images by the denoiser, conditioned on one class after the other."""

    count: Count = 0
    """Upper limit of the test images to classify (a seeded selection among those evaluated); 0 = off."""
    method: Literal["denoising", "inversion", "likelihood"] = "denoising"
    """denoising (errors at several t) | inversion (density of the noise that the ODE leads to) | likelihood (inversion
    with the divergence of the flow): estimate of log p(z0 | class)."""
    steps: Positive = 32
    """denoising: times t, one network evaluation each. Others: Heun steps, two evaluations each. For every class."""
    weighting: Literal["z0_early", "noise", "elbo"] = "z0_early"
    """z0_early (errors of z0, less with more noise) | noise (errors of the noise, all alike) | elbo (as in the
    likelihood bound): weight of the error at each t; denoising only."""
    probes: Positive = 1
    """Random directions that estimate the divergence, one backward pass per evaluation each; likelihood only."""


class EvaluateParams(Section):
    """Settings of stage ``evaluate``."""

    max_images: Positive | None = None
    """Upper limit of the images per set that the feature extractor processes; null = all."""
    neighbours: Positive = 5
    """Neighbours k of precision, recall, density and coverage."""
    pair_count: Positive = 5000
    """Upper limit of the images per set for metrics of pairs: those four, kernel distance, nearest-train distance."""
    classification_accuracy_score: bool = False
    """Train one classifier on the samples and one on as many training images, and test both; see docs/evaluation.md."""
    bayes: BayesParams = BayesParams()
    """Diffusion classifier: which class explains a test image best by the denoiser; see docs/evaluation.md."""
