"""Load the latent classifiers, and refuse those of other latents."""

from dataclasses import dataclass

from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, sha256_file
from latentline.core.labels import Schema, schema_from_json
from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_STATS
from latentline.probes.probes import Logistic, Probe


@dataclass(frozen=True)
class LatentClassifiers:
    """One probe of the flat standardised latent for all attributes."""

    probe: Probe
    """Its logits are in the order of the schema."""
    schema: Schema
    logistic: Logistic
    """How the logits of several classes become probabilities."""


def load_latent_classifiers() -> LatentClassifiers:
    """Read checkpoints/latent_classifiers.

    Raises:
        UserError: missing, damaged, of an earlier version, or fitted on other latents than those of encoded_img.
    """
    tensors, meta = load_arrays(LATENT_CLASSIFIERS, "train_latent_classifiers", kind="latent_classifiers")
    if meta.get("latents") != sha256_file(LATENT_STATS):
        raise UserError(
            f"{LATENT_CLASSIFIERS} was fitted on other latents than encoded_img; "
            "run `dvc repro train_latent_classifiers`"
        )
    with refusing_earlier_versions(LATENT_CLASSIFIERS, "train_latent_classifiers"):
        return LatentClassifiers(
            Probe(tensors["weight"], tensors["bias"]), schema_from_json(meta["schema"]), meta["logistic"]
        )
