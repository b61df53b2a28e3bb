"""Shared by benchmarks: settings, CSV files of what was measured, tables, features of images, timed trainings."""

import csv
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.data.store import ImageSplit, to_unit_range
from latentline.feature_extractors.load import FeatureExtractor
from latentline.runtime.compute import to_device
from latentline.runtime.resume import ResumeFile
from latentline.training.config import optimizer_of
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from stages.train_autoencoder.auxiliary_losses import build_auxiliary_losses
from stages.train_autoencoder.params import AutoencoderParams

_TIMED_STEPS = 20
_TRIES = 5
_BATCH = 1000  # images at a time


def set_params(content: dict[str, Any], params: Mapping[str, object]) -> None:
    """Change settings of a params file as read, by their dotted names."""
    for setting, value in params.items():
        *sections, name = setting.split(".")
        section = content
        for parent in sections:
            section = section[parent]
        section[name] = value


def recorded(path: Path, setting: type, result: type) -> dict[Any, Any]:
    """Return the lines of the CSV file: setting -> result, two dataclasses of plain values."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not get_type_hints(setting).keys() | get_type_hints(result).keys() == rows[0].keys():
        raise SystemExit(f"--csv ({path}) must have this benchmark's columns; move it away, or name another file")
    return {_typed(setting, row): _typed(result, row) for row in rows}


def _typed(kind: type, row: dict[str, str]) -> Any:
    return kind(**{name: of_type(row[name]) for name, of_type in get_type_hints(kind).items()})


def record(path: Path, setting: Any, result: Any) -> None:
    """Append a line."""
    row = {**asdict(setting), **asdict(result)}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def features_of(extractor: FeatureExtractor, split: ImageSplit) -> Tensor:
    """Return the features (N, D) of a split."""
    return torch.cat([extractor.extract(images)[0] for images in split.images.split(_BATCH)])


def build_seeded(
    params: AutoencoderParams, shape: Sequence[int], device: torch.device, seed: int, series: str
) -> Autoencoder:
    """Build a new autoencoder for images of ``shape`` (C, H, W); its weights depend on (seed, series) alone."""
    torch.manual_seed(derive_seed(seed, series, "weights"))
    return to_device(build_autoencoder(params.name, **params.constructor(), image_shape=list(shape)), device)


def train_autoencoder(
    images: Tensor, params: AutoencoderParams, device: torch.device, seed: int, series: str, steps: int
) -> Autoencoder:
    """Train on uint8 images (N, C, H, W) as stage ``train_autoencoder`` does; draws depend on (seed, series)."""
    autoencoder = build_seeded(params, images.shape[1:], device, seed, series)
    losses = build_auxiliary_losses(autoencoder, images.shape[1], params, device, seed, steps)
    order = EpochSampler(len(images), params.optimizer.batch_size, derive_seed(seed, series, "order"))

    def loss(step: int) -> Iterator[MicroBatch]:
        x = to_unit_range(images[order.rows(step)].to(device)).contiguous(memory_format=torch.channels_last)
        noise = autoencoder.sample_training_noise(len(x), generator(seed, series, "noise", step))
        for weight, rows in micro_batches(len(x), params.optimizer.accumulate):
            own_noise = tuple(part[rows].to(device) for part in noise)
            yield weight, *losses.add_to(step, *autoencoder.loss(x[rows], own_noise, step), x[rows])

    never = Saving(ResumeFile(series, {}, ()), float("inf"))
    try:
        used, _ = fit(
            autoencoder,
            loss,
            TrainConfig(series, 1, steps, optimizer_of(params.optimizer), never),
            averages=[] if params.ema_decay is None else [Ema(autoencoder, params.ema_decay)],
            discriminator=losses.discriminator,
        )
    finally:
        never.file.finish()
        shutil.rmtree(never.file.folder, ignore_errors=True)  # a continued training would not take the same time
    return cast(Autoencoder, used.eval())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of ``work()`` and its CPU time in seconds per thread, which leaves other work out."""
    started = time.process_time()
    result = work()
    return result, (time.process_time() - started) / torch.get_num_threads()


def seconds_per_step(train: Callable[[int], Any]) -> float:
    """Return the seconds of a step of ``train(steps)``, as :func:`timed` counts: the least of several tries."""
    return min(timed(lambda: train(_TIMED_STEPS))[1] for _ in range(_TRIES)) / _TIMED_STEPS
