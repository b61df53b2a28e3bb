"""Section ``latent_classifiers``: linear probes of the latents."""

from latentline.params.base import Positive, PositiveFloat, Section


class LatentClassifiersParams(Section):
    """Knobs of stage ``train_latent_classifiers``."""

    inverse_regularization: PositiveFloat
    """scikit-learn's C: smaller = stronger L2 regularisation."""
    max_iterations: Positive
    """Solver iterations at most."""
    train_count: Positive
    """Latents that the probe is fitted on, at most (seeded choice)."""
