"""What the explorer works with: the networks of the run in the current folder, and its images where they are here."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentline import TrainedModel, load
from latentline.autoencoders.load import load_autoencoder
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.inputs import attribute_values
from latentline.core.labels import LabelTable, Schema
from latentline.core.load_params import parse_params
from latentline.core.nested import by_dotted_name
from latentline.core.paths import AUTOENCODER, DENOISER, FEATURE_EXTRACTOR, LATENT_CLASSIFIERS, LATENT_STATS, PREPARED
from latentline.data.decode import ValueRange
from latentline.data.store import ImageSplit, StoreCard, read_card, read_split, to_unit_range
from latentline.denoisers.conditioning import labels_for_samples
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.latents.cache import LatentStats, read_labels
from latentline.latents.normalizer import Normalizer
from latentline.latents.tokens import read_tokens
from latentline.probes.load import LatentClassifiers, load_latent_classifiers
from latentline.samplers.moment_file import SavedMoments, load_moments

_MEASURED = 400  # test images whose latents measure distances and make the map
_DRAWN = 200  # samples in their place, where the data are not here
_NUMBERS = 1 << 20  # pixels of these images, at most
_STEPS = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Gallery:
    """Images that measure distances in the latents and that the map shows."""

    images: Tensor
    """uint8 (N, C, H, W)."""
    z0: Tensor
    """Standardised (N, *latent_shape)."""
    labels: LabelTable
    are_samples: bool
    """Drawn by the denoiser, since the test images are not here."""

    @cached_property
    def flat(self) -> Tensor:
        """Latents (N, F)."""
        return self.z0.flatten(1)


class Session:
    """One loaded run. Networks are shared by all users; nothing in it changes after loading.

    Args:
        model: autoencoder and, where there is one, denoiser.
        settings: every setting of params.yaml by its dotted name; empty = there is none.
        extractor: says what images show; None = none was trained.
        classifiers: give directions of edits; None = none were trained on these latents.
        test: prepared test images; None = the data are not here.
        card: of the prepared images; None = the data are not here.
        moments: maps of samples; None = stage ``sample`` has not run since the denoiser was trained.
        notes: what was left out and why, one line each.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: dict[str, Any],
        extractor: FeatureExtractor | None = None,
        classifiers: LatentClassifiers | None = None,
        test: ImageSplit | None = None,
        card: StoreCard | None = None,
        moments: SavedMoments | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.model, self.settings, self.extractor, self.classifiers = model, settings, extractor, classifiers
        self.test, self.moments, self.notes = test, moments, notes
        self.value_range: ValueRange | None = None if card is None else card.value_range
        self._lock = Lock()

    @property
    def schema(self) -> Schema:
        """Of the labels of the images."""
        return self.model.stats.schema

    @property
    def takes_captions(self) -> bool:
        """Whether the denoiser is conditioned on captions."""
        return self.has_denoiser and self.model.denoiser.conditioning.tokenizer is not None

    @property
    def has_denoiser(self) -> bool:
        """Whether new images can be drawn."""
        return self.model.trained_denoiser is not None

    @cached_property
    def training_labels(self) -> LabelTable:
        """Labels of training images, which samples are conditioned on."""
        return read_labels(self.schema, self.model.root)

    def example_prompt(self) -> str:
        """Return the first caption of the test images; empty where there is none."""
        tokenizer = self.model.denoiser.conditioning.tokenizer
        try:
            return "" if tokenizer is None else tokenizer.decode(read_tokens("test", tokenizer)[:1])[0]
        except UserError:
            return ""

    def setting(self, name: str, default: T) -> T:
        """Return a setting of params.yaml, or the default where it has none."""
        return self.settings.get(name, default)

    def condition(self, values: dict[str, Any]) -> Condition:
        """Return the condition of one example with these values by attribute, and all others unknown."""
        row = torch.full((1, len(self.schema)), torch.nan)
        for column, attribute in enumerate(self.schema):
            if attribute.name in values:
                row[:, column] = attribute_values(attribute, values[attribute.name])
        return self.model.denoiser.conditioning.encode(LabelTable(self.schema, row)).to(self.model.device)

    def gallery(self) -> Gallery:
        """Return the gallery; the first call computes it."""
        with self._lock:
            return self._gallery

    @cached_property
    @torch.no_grad()
    def _gallery(self) -> Gallery:
        model, pixels = self.model, self.model.image_shape[-1] * self.model.image_shape[-2]
        count = max(50, min(_MEASURED, _NUMBERS // pixels))
        if self.test is not None:
            images, labels = self.test.images[torch.arange(min(count, len(self.test)))], self.test.labels
            z0 = torch.cat([model.encode(to_unit_range(batch)) for batch in images.split(100)])
            return Gallery(images, z0.cpu(), labels[torch.arange(len(images))], are_samples=False)
        if not self.has_denoiser:
            raise UserError(f"{PREPARED} is missing; run `dvc repro download` for images to start from")
        labels = labels_for_samples(self.training_labels, min(count, _DRAWN))
        condition = model.denoiser.conditioning.encode(labels)
        z0 = torch.cat(
            [
                model.sample(len(rows), condition.rows(rows), steps=_STEPS, guidance_scale=1.0, seed=number)
                for number, rows in enumerate(torch.arange(len(labels)).split(50))
            ]
        )
        raw = model.stats.normalizer.restore(z0)
        return Gallery(model.autoencoder.decode(raw), z0.cpu(), labels, are_samples=True)


def open_session(device: torch.device) -> Session:
    """Load the run of the current folder: at least an autoencoder.

    Raises:
        UserError: there is no autoencoder, or a file is damaged.
    """
    notes = []
    card = read_card(PREPARED) if (PREPARED / "card.json").exists() else None
    test = read_split(PREPARED, "test") if card is not None else None
    settings = by_dotted_name(parse_params(Path("params.yaml").read_text())) if Path("params.yaml").exists() else {}
    model = load(device=device) if LATENT_STATS.exists() else _without_latents(device, card, test)
    if model.trained_denoiser is None:
        notes.append(f"No denoiser: {DENOISER} is missing. Run `dvc repro train_denoiser` to draw new images.")
    if card is None:
        notes.append(f"No test images: {PREPARED} is missing. Samples and your own files take their place.")
    extractor = load_feature_extractor(device) if FEATURE_EXTRACTOR.exists() else None
    if extractor is None:
        notes.append(f"Images are not named: {FEATURE_EXTRACTOR} is missing. Run `dvc repro train_feature_extractor`.")
    classifiers = None
    if LATENT_CLASSIFIERS.exists() and LATENT_STATS.exists():
        try:
            classifiers = load_latent_classifiers()
        except UserError as error:
            notes.append(f"Directions are differences of means: {error}.")
    moments = None
    if model.trained_denoiser is not None:
        try:
            moments = load_moments(device)
        except UserError as error:
            notes.append(f"Samples are drawn without moment matching: {error}.")
    return Session(model, settings, extractor, classifiers, test, card, moments, tuple(notes))


def _without_latents(device: torch.device, card: StoreCard | None, test: ImageSplit | None) -> TrainedModel:
    """Return the autoencoder alone; its latents are standardised by those of test images, where there are any."""
    if not AUTOENCODER.exists():
        raise UserError(
            f"{AUTOENCODER} is missing; run `make weights` for the trained ones of this repository, or `dvc repro`"
        )
    autoencoder = load_autoencoder(device)
    shape = autoencoder.network.latent_shape
    normalizer = Normalizer.constant(1.0, shape)
    if test is not None:
        normalizer = Normalizer.fit(autoencoder.encode(test.images[torch.arange(min(_MEASURED, len(test)))]))
    schema = () if card is None else card.schema
    stats = LatentStats(tuple(shape), schema, autoencoder.sha256, normalizer)
    return TrainedModel(autoencoder, stats, None, device)
