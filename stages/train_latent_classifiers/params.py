"""Section ``latent_classifiers``: linear probes of the latents."""

from typing import Literal

from latentline.core.params import Positive, PositiveFloat, Section


class LatentClassifiersParams(Section):
    """Knobs of stage ``train_latent_classifiers``."""

    features: Literal["flat", "pooled"]
    """``flat``: every number of the latent; ``pooled``: of a map the mean over its positions, one number per channel."""
    logistic: Literal["multinomial", "one_vs_rest"]
    """Of several classes: one model of all, or one of each class against the others."""
    inverse_regularization: PositiveFloat | None
    """scikit-learn's C: smaller = stronger L2 regularisation; None = of seven the one with the least loss on validation images."""
    max_iterations: Positive
    """Solver iterations at most."""
    train_count: Positive
    """Latents that the probe is fitted on, and validation latents that choose its regularisation, at most (seeded choice)."""
