"""Stage ``evaluate``: every score that needs the feature extractor, each beside its references."""

from typing import Any

from latentline.autoencoders.load import load_autoencoder
from latentline.core.files import digests, replaced_folder, write_metrics
from latentline.core.load_params import load
from latentline.core.paths import AUTOENCODER, FEATURE_EXTRACTOR, FIGURES, GENERATED, LATENT_STATS, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.samples import read_samples
from latentline.data.store import ImageSplit, read_split
from latentline.feature_extractors.load import load_feature_extractor
from latentline.latents.cache import read_latents, read_stats
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import init_distributed
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from stages.evaluate.accuracy_score import accuracy_scores, require_classes
from stages.evaluate.caption_scores import caption_scores
from stages.evaluate.diffusion_classifier import class_shares, diffusion_classifier_scores, load_class_conditional
from stages.evaluate.features import STAGE, extract, image_sets
from stages.evaluate.params import EvaluateParams
from stages.evaluate.report import draw
from stages.evaluate.scores import agreement_scores, distance_scores, fid_scores

_READ = (AUTOENCODER, FEATURE_EXTRACTOR, LATENT_STATS, PREPARED / "card.json")


def main() -> None:
    """Read section ``evaluate``, data, latents, samples and checkpoints; write fig/evaluate and metrics/evaluate.json.

    Every distance is to the train split. The references are the test split (perfect samples), the reconstructed test
    split (perfect latents) and decoded noise (an untrained denoiser).
    """
    params, seed, compute = load("evaluate", EvaluateParams)
    device, ranks = init_distributed(
        set_up(compute.device, compute.threads, compute.deterministic), compute.devices, compute.nodes
    )
    autoencoder, extractor, stats = load_autoencoder(device), load_feature_extractor(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    generated = read_samples(GENERATED, autoencoder.sha256)
    if params.classification_accuracy_score:
        require_classes(generated.labels.names)
    denoiser = load_class_conditional(device, stats, params.bayes.count) if params.bayes.count else None
    train, test = read_split(PREPARED, "train"), read_split(PREPARED, "test")
    count = params.max_images or max(len(train), len(generated))
    samples, real_test, latents = _head(generated, count), _head(test, count), read_latents("test").latents[:count]

    sets = image_sets(train.images.head(count), samples.images, real_test.images, latents, autoencoder, stats, seed)
    inputs = digests([*_READ, *sorted(GENERATED.glob("*.safetensors"))])
    state = ResumeFile(STAGE, {"count": count, "seed": seed, "inputs": inputs}, [f"stages.{STAGE}.features"])
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        extracted = extract(sets, extractor, chunks)
    predicted = {name: found.labels for name, found in extracted.items()}

    # "judge" is for readers of earlier versions
    metrics: dict[str, Any] = {"feature_extractor": extractor.name, "judge": extractor.name, "count": len(samples)}
    features = {name: found.features for name, found in extracted.items()}
    distances, neighbours = distance_scores(params, seed, features, device)
    real = real_test.labels
    labels = {"samples": samples.labels, "real_test": real, "reconstructions": real[: len(latents)]}
    metrics |= distances | agreement_scores(extractor.schema, predicted, labels)
    metrics |= caption_scores(extractor, features, seed)
    if extractor.name == "inception":
        metrics |= fid_scores(distances, whole=count >= max(len(train), len(generated)))
    if params.classification_accuracy_score:
        metrics |= accuracy_scores(extractor, samples, train, real_test, seed, compute)
    confusions = None
    if denoiser:
        z0, shares = stats.normalizer.standardise(latents), class_shares(train.labels)
        metrics["bayes"], confusions = diffusion_classifier_scores(
            params.bayes, seed, denoiser, z0, real_test.labels, shares, predicted["real_test"][:, 0]
        )
    write_metrics(METRICS / "evaluate.json", metrics)
    with replaced_folder(FIGURES / "evaluate") as folder:
        draw(folder, metrics, samples.images, train.images, neighbours, confusions)
    state.finish()


def _head(split: ImageSplit, count: int) -> ImageSplit:
    return ImageSplit(split.images.head(count), split.labels[:count])


if __name__ == "__main__":
    run_stage("evaluate", main)
