"""Does the discriminator help? A recipe's autoencoder with and without it, in the same time, scored by the judge on images neither has seen.

    dvc repro train_feature_extractor      # data/prepared and the judge
    python benchmarks/adversarial.py --seeds 3 --seconds 160 --images 20000

Each finished training is a line of the CSV file; a line that is there already is not run again, so an interrupted benchmark continues.
The images scored are the test split, the val split, and as many of the end of the train split as are missing; nothing trains on them.
Distances are between their reconstructions and themselves: perfect ones score 0.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.data.store import read_card, read_split, to_uint8, to_unit_range
from latentline.evaluation.distances import frechet_distance
from latentline.evaluation.reconstruction import psnr
from latentline.params.autoencoder import AutoencoderParams
from latentline.params.load import read_params, validate
from latentline.pipeline.critics import build_critics
from latentline.pipeline.judge import Judge, load_judge
from latentline.pipeline.paths import PREPARED
from latentline.pipeline.training import optimizer_of
from latentline.runtime.compute import place, set_up
from latentline.runtime.resume import ResumeFile
from latentline.training.loop import Saving, fit

_STAGE = "benchmark_adversarial"
_TIMED_STEPS = 20
_TRIES = 5
_BATCH = 500
_ARMS = ("without", "with")


@dataclass(frozen=True)
class Setting:
    """What a line of the CSV file belongs to."""

    arm: str
    seed: int
    seconds: float
    images: int
    weight: float
    start: float


@dataclass(frozen=True)
class Result:
    """What a training came to."""

    steps: int
    seconds_taken: float
    psnr: float
    fd: float


def _train(shape: tuple[int, int, int], images: Tensor, knobs: AutoencoderParams, device: torch.device, seed: int, steps: int) -> Codec:
    """``steps`` steps on ``images`` (N, C, H, W), as stage ``train_autoencoder`` makes them."""
    torch.manual_seed(derive_seed(seed, _STAGE, "weights"))
    codec = place(build_codec(knobs.name, **knobs.constructor(), image_shape=list(shape)), device)
    critics = build_critics(codec, shape[0], knobs, device, seed, steps)
    order = EpochSampler(len(images), knobs.optimizer.batch_size, derive_seed(seed, _STAGE, "order"))

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = to_unit_range(images[order.rows(step)].to(device)).contiguous(memory_format=torch.channels_last)
        return critics.judge(step, *codec.loss(x, generator(seed, _STAGE, "noise", step)), x)

    never = Saving(ResumeFile(_STAGE, {}), float("inf"))
    try:
        fit(codec, loss, epochs=1, steps_per_epoch=steps, optimizer=optimizer_of(knobs.optimizer), saving=never, rival=critics.rival, section=_STAGE)
    finally:
        never.file.remove()  # what an interrupt left: a continued training would not have taken the same time
    return codec


def _with(knobs: AutoencoderParams, **adversarial: float) -> AutoencoderParams:
    return knobs.model_copy(update={"adversarial": knobs.adversarial.model_copy(update=adversarial)})


def _steps_in(seconds: float, start: float, time_of: Callable[[float], float], weight: float) -> int:
    """Steps that take ``seconds``, where the discriminator trains from share ``start`` of them on."""
    plain = time_of(0.0)
    contested = time_of(weight) if weight else plain
    return max(10, round(seconds / (start * plain + (1 - start) * contested)))


@torch.no_grad()
def _score(codec: Codec, held_out: Tensor, judge: Judge, device: torch.device) -> tuple[float, float]:
    """(PSNR in dB, Frechet distance) of the reconstructions of ``held_out``, uint8 (N, C, H, W)."""
    codec.eval()
    decoded = torch.cat([to_uint8(codec.decode(codec.encode(to_unit_range(part).to(device)))).cpu() for part in held_out.split(_BATCH)])
    mse = (held_out.float() - decoded.float()).div(255).square().mean().item()
    return psnr(mse), frechet_distance(judge.look(decoded)[0], judge.look(held_out)[0])


def _run(setting: Setting, knobs: AutoencoderParams, train: Tensor, held_out: Tensor, judge: Judge) -> Result:
    device, shape = judge.device, read_card(PREPARED).shape
    weight = setting.weight if setting.arm == "with" else 0.0

    def time_of(weight: float) -> float:
        """Seconds of a step: the least of several tries, which other work on the machine disturbs least."""
        tries = []
        for _ in range(_TRIES):
            started = time.perf_counter()
            _train(shape, train, _with(knobs, weight=weight, start_step=0, warmup_steps=0), device, setting.seed, _TIMED_STEPS)
            tries.append((time.perf_counter() - started) / _TIMED_STEPS)
        return min(tries)

    steps = _steps_in(setting.seconds, setting.start, time_of, weight)
    warmup = round(0.05 * steps)
    begin = round(setting.start * steps)
    started = time.perf_counter()
    codec = _train(shape, train, _with(knobs, weight=weight, start_step=begin, warmup_steps=warmup), device, setting.seed, steps)
    taken = time.perf_counter() - started
    return Result(steps, taken, *_score(codec, held_out, judge, device))


def _recorded(path: Path) -> dict[Setting, Result]:
    """The lines of the CSV file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {_typed(Setting, row): _typed(Result, row) for row in rows}


def _typed(kind: type, row: dict[str, str]) -> object:
    return kind(**{field.name: field.type(row[field.name]) for field in fields(kind)})


def _record(path: Path, setting: Setting, result: Result) -> None:
    row = {**asdict(setting), **asdict(result)}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _print_table(results: dict[Setting, Result], settings: list[Setting]) -> None:
    """Mean and spread (standard deviation over seeds) of each arm."""
    print(f"{'discriminator':16}{'seeds':>6}{'steps':>8}{'seconds':>9}{'PSNR (dB)':>16}{'reconstruction FD':>22}")
    for arm in _ARMS:
        of_arm = [results[setting] for setting in settings if setting.arm == arm and setting in results]
        if not of_arm:
            continue
        columns = {field.name: torch.tensor([getattr(result, field.name) for result in of_arm], dtype=torch.float64) for field in fields(Result)}
        spread = {name: f"{column.mean():.2f} +- {column.std(correction=len(of_arm) > 1):.2f}" for name, column in columns.items()}
        steps, taken = columns["steps"].mean(), columns["seconds_taken"].mean()
        print(f"{arm:16}{len(of_arm):>6}{steps:>8.0f}{taken:>9.0f}{spread['psnr']:>16}{spread['fd']:>22}")


def main() -> None:
    """Run what the CSV file does not have yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/default.yaml"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=160.0, help="of each training")
    parser.add_argument("--images", type=int, default=20_000, help="held out and scored")
    parser.add_argument("--weight", type=float, default=0.1, help="autoencoder.adversarial.weight")
    parser.add_argument("--start", type=float, default=0.5, help="share of the steps after which the discriminator begins to train")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/adversarial.csv"))
    arguments = parser.parse_args()
    params = validate(read_params(arguments.recipe), arguments.recipe)
    judge = load_judge(set_up(params.compute.device, params.compute.threads))

    train = read_split(PREPARED, "train").images.load()
    others = torch.cat([read_split(PREPARED, name).images.load() for name in ("test", "val")])
    missing = max(0, arguments.images - len(others))
    train, held_out = train[: len(train) - missing], torch.cat([others, train[len(train) - missing :]])[: arguments.images]

    settings = [
        Setting(arm, seed, arguments.seconds, arguments.images, arguments.weight, arguments.start) for seed in range(arguments.seeds) for arm in _ARMS
    ]
    for setting in settings:
        if setting not in _recorded(arguments.csv):
            result = _run(setting, params.autoencoder, train, held_out, judge)
            _record(arguments.csv, setting, result)
            print(setting, result, flush=True)
    _print_table(_recorded(arguments.csv), settings)


if __name__ == "__main__":
    main()
