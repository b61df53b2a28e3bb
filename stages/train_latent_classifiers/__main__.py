"""Stage ``train_latent_classifiers``: fit one linear probe of the standardised latents per attribute."""

from latentline.core.arrays import save_arrays
from latentline.core.files import sha256_file
from latentline.core.labels import schema_to_json
from latentline.core.load_params import load
from latentline.core.paths import LATENT_CLASSIFIERS, LATENT_STATS
from latentline.core.stage import run_stage
from latentline.latents.cache import read_latents, read_stats
from latentline.probes.probes import partly_fitted
from latentline.runtime.compute import set_up
from stages.train_latent_classifiers.fit import fit_probes, predict_logits, read_subset
from stages.train_latent_classifiers.params import LatentClassifiersParams
from stages.train_latent_classifiers.report import report, scored_rows


def main() -> None:
    """Read section ``latent_classifiers`` and encoded_img; write checkpoint, figures and metrics of the probes."""
    params, seed, compute = load("latent_classifiers", LatentClassifiersParams)
    set_up(compute.device, compute.threads, compute.deterministic)
    stats = read_stats()
    train, val = (read_subset(split, stats, params.train_count, seed) for split in ("train", "val"))

    probe, inverse_regularization = fit_probes(stats.schema, train, val, params)
    meta = {
        "kind": "latent_classifiers",
        "schema": schema_to_json(stats.schema),
        "latents": sha256_file(LATENT_STATS),
        "logistic": params.logistic,
    }
    save_arrays(LATENT_CLASSIFIERS, {"weight": probe.weight, "bias": probe.bias}, meta)

    test = read_latents("test")
    rows = scored_rows(len(test.labels), len(probe.bias))
    latents = test.latents if isinstance(rows, slice) else test.latents[rows]
    logits = predict_logits(probe, latents, stats.normalizer)
    fitted = partly_fitted(stats.schema, probe.bias)
    report(test.labels[rows], logits, params.logistic, inverse_regularization, fitted)


if __name__ == "__main__":
    run_stage("train_latent_classifiers", main)
