"""Does the discriminator help? A recipe's autoencoder with and without it, in the same time, scored on held-out images.

    dvc repro train_feature_extractor      # data/prepared and the feature extractor
    python benchmarks/adversarial.py --seconds 320 --images 20000

Each finished training is a line of the CSV file. A line that exists is not run again, so an interrupted benchmark
continues. The images scored are the test split, the val split, and as many of the end of the train split as are
missing; nothing trains on them. Distances are between their reconstructions and themselves: perfect ones score 0.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import record, recorded, seconds_per_step, timed, train_autoencoder

from latentline.autoencoders.base import Autoencoder
from latentline.core.load_params import validate
from latentline.core.paths import PREPARED
from latentline.data.store import read_split, to_uint8, to_unit_range
from latentline.evaluation.reconstruction import psnr
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.runtime.compute import set_up
from latentline.tools.params_file import read_recipe
from stages.evaluate.distances import frechet_distance
from stages.train_autoencoder.params import AutoencoderParams

_SERIES = "benchmark_adversarial"
_BATCH = 500
_ARMS = ("without", "with")


@dataclass(frozen=True)
class Setting:
    """The first columns of a line of the CSV file."""

    arm: str
    seed: int
    seconds: float
    threads: int
    images: int
    weight: float
    start: float


@dataclass(frozen=True)
class Result:
    """The scores of a training."""

    steps: int
    seconds_taken: float
    psnr: float
    fd: float


def _with(params: AutoencoderParams, **adversarial: float) -> AutoencoderParams:
    return params.model_copy(update={"adversarial": params.adversarial.model_copy(update=adversarial)})


def _steps_in(seconds: float, start: float, time_of: Callable[[float], float], weight: float) -> int:
    """Return the steps that take ``seconds``, where the discriminator trains from share ``start`` of them on."""
    plain = time_of(0.0)
    contested = time_of(weight) if weight else plain
    return max(10, round(seconds / (start * plain + (1 - start) * contested)))


@torch.no_grad()
def _score(
    autoencoder: Autoencoder, held_out: Tensor, extractor: FeatureExtractor, device: torch.device
) -> tuple[float, float]:
    """Return PSNR in dB and Frechet distance of the reconstructions of ``held_out``, uint8 (N, C, H, W)."""
    decoded = torch.cat(
        [
            to_uint8(autoencoder.decode(autoencoder.encode(to_unit_range(part).to(device)))).cpu()
            for part in held_out.split(_BATCH)
        ]
    )
    mse = (held_out.float() - decoded.float()).div(255).square().mean().item()
    return psnr(mse), frechet_distance(extractor.extract(decoded)[0], extractor.extract(held_out)[0])


def _run(
    setting: Setting, params: AutoencoderParams, train: Tensor, held_out: Tensor, extractor: FeatureExtractor
) -> Result:
    device = extractor.device
    weight = setting.weight if setting.arm == "with" else 0.0

    def time_of(weight: float) -> float:
        at_once = _with(params, weight=weight, start_step=0, warmup_steps=0)
        return seconds_per_step(lambda steps: train_autoencoder(train, at_once, device, setting.seed, _SERIES, steps))

    steps = _steps_in(setting.seconds, setting.start, time_of, weight)
    warmup = round(0.05 * steps)
    begin = round(setting.start * steps)
    contested = _with(params, weight=weight, start_step=begin, warmup_steps=warmup)
    autoencoder, taken = timed(lambda: train_autoencoder(train, contested, device, setting.seed, _SERIES, steps))
    return Result(steps, taken, *_score(autoencoder, held_out, extractor, device))


def _print_table(results: dict[Setting, Result], settings: list[Setting]) -> None:
    """Mean and spread (standard deviation over seeds) of each arm."""
    print(f"{'discriminator':16}{'seeds':>6}{'steps':>8}{'seconds':>9}{'PSNR (dB)':>16}{'reconstruction FD':>22}")
    for arm in _ARMS:
        of_arm = [results[setting] for setting in settings if setting.arm == arm and setting in results]
        if not of_arm:
            continue
        columns = {
            field.name: torch.tensor([getattr(result, field.name) for result in of_arm], dtype=torch.float64)
            for field in fields(Result)
        }
        spread = {
            name: f"{column.mean():.2f} +- {column.std(correction=len(of_arm) > 1):.2f}"
            for name, column in columns.items()
        }
        steps, taken = columns["steps"].mean(), columns["seconds_taken"].mean()
        print(f"{arm:16}{len(of_arm):>6}{steps:>8.0f}{taken:>9.0f}{spread['psnr']:>16}{spread['fd']:>22}")


def main() -> None:
    """Run what the CSV file does not have yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=320.0, help="of each training, CPU time per thread")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=20_000, help="held out and scored")
    parser.add_argument("--weight", type=float, default=0.1, help="autoencoder.adversarial.weight")
    parser.add_argument(
        "--start", type=float, default=0.5, help="share of the steps after which the discriminator begins to train"
    )
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/adversarial.csv"))
    arguments = parser.parse_args()
    params = validate(read_recipe(arguments.recipe, Path(__file__).resolve().parent.parent))
    extractor = load_feature_extractor(set_up(params.compute.device, arguments.threads))

    train = read_split(PREPARED, "train").images.to_memory()
    others = torch.cat([read_split(PREPARED, name).images.to_memory() for name in ("test", "val")])
    missing = max(0, arguments.images - len(others))
    train, held_out = (
        train[: len(train) - missing],
        torch.cat([others, train[len(train) - missing :]])[: arguments.images],
    )

    settings = [
        Setting(arm, seed, arguments.seconds, arguments.threads, arguments.images, arguments.weight, arguments.start)
        for seed in arguments.seeds
        for arm in _ARMS
    ]
    for setting in settings:
        if setting not in recorded(arguments.csv, Setting, Result):
            result = _run(setting, params.autoencoder, train, held_out, extractor)
            record(arguments.csv, setting, result)
            print(setting, result, flush=True)
    _print_table(recorded(arguments.csv, Setting, Result), settings)


if __name__ == "__main__":
    main()
