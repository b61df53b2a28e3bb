"""Scores in plain words, each beside the references that its file holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from latentline.core.nested import by_dotted_name
from latentline.report.run import Run


class _Named(NamedTuple):
    key: str  # file of metrics/, then the dotted key
    text: str
    better: Literal["higher", "lower", ""]


_SCORES = (
    _Named("evaluate.fd", "Frechet distance of samples to training images", "lower"),
    _Named("evaluate.kd", "Kernel distance of samples to training images", "lower"),
    _Named("evaluate.precision", "Precision: share of samples near a training image", "higher"),
    _Named("evaluate.recall", "Recall: share of training images near a sample", "higher"),
    _Named("evaluate.density", "Density: how many training images a sample is near to", "higher"),
    _Named("evaluate.coverage", "Coverage: share of training images with a sample nearby", "higher"),
    _Named("evaluate.class_accuracy", "Share of samples classified as the requested class", "higher"),
    _Named(
        "evaluate.nearest_train_distance",
        "Distance from a sample to its nearest training image (far below the reference: copies)",
        "",
    ),
    _Named("evaluate.classification_accuracy_score", "Accuracy of a classifier trained on the samples", "higher"),
    _Named("evaluate.bayes.accuracy", "Accuracy of the denoiser as a classifier", "higher"),
    _Named("autoencoder.psnr", "Reconstruction of test images: PSNR in dB", "higher"),
    _Named("autoencoder.ssim", "Reconstruction of test images: SSIM", "higher"),
    _Named("autoencoder.lpips", "Reconstruction of test images: LPIPS", "lower"),
    _Named("denoiser.test_loss", "Loss of the denoiser on test latents", "lower"),
    _Named("manipulate.flip_rate", "Share of edited images classified as the target", "higher"),
    _Named("manipulate.ssim", "SSIM of edited images to the originals", "higher"),
    _Named("latent_classifiers.accuracy", "Accuracy of the linear probes of the latents", "higher"),
    _Named("feature_extractor.accuracy", "Accuracy of the feature extractor on test images", "higher"),
    _Named("sample.network_evaluations", "Network evaluations per sample", "lower"),
)
_REFERENCES = {  # pattern of the reference's key -> what it was measured on
    "{file}.{key}_of_real_test": "real test images",
    "{file}.{key}_real_test": "real test images",
    "{file}.{key}_reconstruction": "reconstructions",
    "{file}.{key}_of_reconstructions": "reconstructions",
    "{file}.{key}_of_decoded_noise": "decoded noise",
    "{file}.{key}_of_real_train": "trained on real images",
    "{file}.{key}_random": "random directions",
    "{file}.{key}_of_the_commonest_class": "always the commonest class",
    "{file}.untrained.{key}": "untrained",
}


class Reference(NamedTuple):
    """A value to compare a score with."""

    text: str
    value: float


@dataclass(frozen=True)
class Score:
    """One score of each run, the first one's references beside it. None = a run lacks the score."""

    key: str  # such as evaluate.fd: file, then key
    text: str
    better: str  # higher, lower, or empty where neither is
    values: tuple[float | None, ...]
    references: tuple[Reference, ...]


def headline_scores(runs: list[Run]) -> list[Score]:
    """Return the scores that have a name in plain words and a value in the first run."""
    numbers = [_numbers(run) for run in runs]
    named = [score for score in _SCORES if numbers[0].get(score.key) is not None]
    return [
        Score(key, text, better, tuple(values.get(key) for values in numbers), tuple(_references(key, numbers[0])))
        for key, text, better in named
    ]


def all_numbers(runs: list[Run], file: str) -> dict[str, tuple[Any, ...]]:
    """Return each key of metrics/``file``.json with the value of every run, None where it has none."""
    flat = [by_dotted_name(run.metrics.get(file, {})) for run in runs]
    return {key: tuple(values.get(key) for values in flat) for key in dict.fromkeys(key for f in flat for key in f)}


def _numbers(run: Run) -> dict[str, float]:
    """Return every number of a run's metrics by file and key."""
    flat = by_dotted_name(run.metrics)
    return {key: value for key, value in flat.items() if isinstance(value, int | float)}


def _references(name: str, numbers: dict[str, float]) -> Iterator[Reference]:
    file, key = name.split(".", 1)
    for pattern, text in _REFERENCES.items():
        if (value := numbers.get(pattern.format(file=file, key=key))) is not None:
            yield Reference(text, value)
