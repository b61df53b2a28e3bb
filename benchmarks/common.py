"""What several benchmarks share: a CSV file that remembers what was measured, Markdown tables, the judge's view, timed trainings."""

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.data.store import ImageSplit, to_unit_range
from latentline.params.autoencoder import AutoencoderParams
from latentline.pipeline.critics import build_critics
from latentline.pipeline.judge import Judge
from latentline.pipeline.training import optimizer_of
from latentline.runtime.compute import place
from latentline.runtime.resume import ResumeFile
from latentline.training.ema import Ema
from latentline.training.loop import Part, Saving, TrainConfig, fit, parts

_TIMED_STEPS = 20
_TRIES = 5
_BATCH = 1000  # images that the judge is shown at a time


def recorded(path: Path, setting: type, result: type) -> dict[Any, Any]:
    """The lines of the CSV file: what belongs to a line -> what came out, two dataclasses of plain values."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and not get_type_hints(setting).keys() | get_type_hints(result).keys() == rows[0].keys():
        raise SystemExit(f"{path}: its columns are those of another version of this benchmark; move it away, or name another file by --csv")
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
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def features_of(judge: Judge, split: ImageSplit) -> Tensor:
    """What the judge sees in a split: (N, D)."""
    return torch.cat([judge.look(images)[0] for images in split.images.split(_BATCH)])


def build_seeded(knobs: AutoencoderParams, shape: Sequence[int], device: torch.device, seed: int, series: str) -> Codec:
    """A new codec for images of ``shape`` (C, H, W); its weights depend on (seed, series) alone."""
    torch.manual_seed(derive_seed(seed, series, "weights"))
    return place(build_codec(knobs.name, **knobs.constructor(), image_shape=list(shape)), device)


def train_codec(images: Tensor, knobs: AutoencoderParams, device: torch.device, seed: int, series: str, steps: int) -> Codec:
    """``steps`` steps on ``images``, uint8 (N, C, H, W), as stage ``train_autoencoder`` makes them; chance depends on (seed, series)."""
    codec = build_seeded(knobs, images.shape[1:], device, seed, series)
    critics = build_critics(codec, images.shape[1], knobs, device, seed, steps)
    order = EpochSampler(len(images), knobs.optimizer.batch_size, derive_seed(seed, series, "order"))

    def loss(step: int) -> Iterator[Part]:
        x = to_unit_range(images[order.rows(step)].to(device)).contiguous(memory_format=torch.channels_last)
        noise = generator(seed, series, "noise", step)
        for share, rows in parts(len(x), knobs.optimizer.accumulate):
            yield share, *critics.judge(step, *codec.loss(x[rows], noise, step), x[rows])

    never = Saving(ResumeFile(series, {}, ()), float("inf"))
    try:
        used, _ = fit(
            codec,
            loss,
            TrainConfig(series, 1, steps, optimizer_of(knobs.optimizer), never),
            averages=[] if knobs.ema_decay is None else [Ema(codec, knobs.ema_decay)],
            discriminator=critics.rival,
        )
    finally:
        never.file.finish()  # what an interrupt left: a continued training would not have taken the same time
    return cast(Codec, used.eval())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work()`` returns, and its CPU time in seconds per thread: on one thread, other work on the machine does not count."""
    started = time.process_time()
    result = work()
    return result, (time.process_time() - started) / torch.get_num_threads()


def seconds_per_step(train: Callable[[int], Any]) -> float:
    """Of ``train(steps)``, as :func:`timed` counts: the least of several tries."""
    return min(timed(lambda: train(_TIMED_STEPS))[1] for _ in range(_TRIES)) / _TIMED_STEPS
