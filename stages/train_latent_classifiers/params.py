"""Section ``latent_classifiers``: linear probes of the latents."""

from typing import Literal

from latentline.core.params import Positive, PositiveFloat, Section


class LatentClassifiersParams(Section):
    """Settings of stage ``train_latent_classifiers``."""

    features: Literal["flat", "pooled"] = "flat"
    """flat (every number of the latent) | pooled (the mean of each channel of a latent map over its positions)."""
    logistic: Literal["multinomial", "one_vs_rest"] = "multinomial"
    """multinomial (one model of all classes) | one_vs_rest (one model per class, against all others)."""
    inverse_regularization: PositiveFloat | None = 1e-4
    """C of scikit-learn: smaller = stronger L2 regularisation and cleaner directions; null = the one of seven values
    with the lowest loss on the validation split."""
    max_iterations: Positive = 200
    """Upper limit of solver iterations."""
    train_count: Positive = 20000
    """Upper limit of the latents to fit on, and of the validation latents that choose C (a seeded selection)."""
