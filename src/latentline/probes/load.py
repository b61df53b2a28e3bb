"""Load the latent classifiers, refuse them if they belong to other latents."""

from dataclasses import dataclass

from latentline.core.arrays import load_arrays
from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.labels import schema_from_json
from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_STATS
from latentline.probes.probes import Logistic, Probe


@dataclass(frozen=True)
class LatentClassifiers:
    """One probe of the flat standardised latent for all columns: its outputs stand in the columns' order."""

    probe: Probe
    columns: tuple[Attribute, ...]
    logistic: Logistic  # what the outputs for several classes mean


def load_latent_classifiers() -> LatentClassifiers:
    """Read checkpoints/latent_classifiers. Raises UserError when missing, damaged, or fitted on other latents than encoded_img holds."""
    tensors, meta = load_arrays(LATENT_CLASSIFIERS, "train_latent_classifiers", kind="latent_classifiers")
    if meta.get("latents") != sha256_file(LATENT_STATS):
        raise UserError(
            f"{LATENT_CLASSIFIERS} was fitted on other latents than encoded_img; run `dvc repro train_latent_classifiers`"
        )
    return LatentClassifiers(
        Probe(tensors["weight"], tensors["bias"]), schema_from_json(meta["schema"]), meta["logistic"]
    )
