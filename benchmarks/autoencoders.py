"""Kinds of autoencoder on the same data in the same time: parameters, errors and distances of the test split.

    dvc repro train_feature_extractor      # data/prepared and the feature extractor
    python benchmarks/autoencoders.py --seconds 650 --arms ae_49 vae_49

An arm is the params file with some of its autoencoder's settings changed. Each finished training is a line of the CSV
file. A line that exists is not run again, so an interrupted benchmark continues. The steps that fit into the time are
found by timing a few of them first.
"""

import argparse
import hashlib
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import (
    build_seeded,
    features_of,
    markdown_table,
    record,
    recorded,
    seconds_per_step,
    timed,
    train_autoencoder,
)

from latentline.core.files import sha256_file
from latentline.core.load_params import read_params, validate
from latentline.core.paths import FEATURE_EXTRACTOR, PREPARED
from latentline.data.store import ImageSplit, read_split
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.runtime.compute import set_up
from latentline.tools.params_file import read_recipe
from stages.evaluate.distances import frechet_distance
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.report import score

_SERIES = "benchmark_autoencoders"
_DIGEST = 12  # characters of a sha256
_49 = {  # 1x7x7 latents of 28x28 images; fewer parameters than the 221,000 of the autoencoder to be beaten
    "latent_channels": 1,
    "latent_dim": None,
    "network": "conv",
    "encoder_channels": [32, 40],
    "encoder_blocks": [1, 1],
    "decoder_channels": [32, 56],
    "decoder_blocks": [2, 2],
}
_STABLE_DIFFUSION = {  # about the default network's parameters, at full size, half and a quarter
    "network": "stable_diffusion",
    "encoder_channels": [16, 24, 40],
    "encoder_blocks": [1, 1, 1],
    "decoder_channels": [16, 24, 40],
    "decoder_blocks": [2, 2, 2],
    "middle_attention": True,
}
ARMS: dict[str, dict[str, Any]] = {
    "vae": {},
    "ae": {"name": "ae"},
    "vae_l1": {"reconstruction": "l1"},
    "ae_l1": {"name": "ae", "reconstruction": "l1"},
    "vae_49": _49,
    "ae_49": {"name": "ae", **_49},
    "vector_49": {"name": "ae", **_49, "decoder_channels": [32, 48], "latent_channels": 4, "latent_dim": 49},
    "vector_256": {"name": "ae", "latent_dim": 256},
    "stable_diffusion": _STABLE_DIFFUSION,
}


@dataclass(frozen=True)
class Setting:
    """The first columns of a line of the CSV file."""

    arm: str
    params: str  # the autoencoder's, as the beginning of their sha256
    feature_extractor: str  # the feature extractor's checkpoint, likewise; it stands for the data, too
    seed: int
    seconds: float
    threads: int


@dataclass(frozen=True)
class Result:
    """The scores of a training on the test split."""

    parameters: int
    latent_size: int
    steps: int
    seconds_taken: float
    half_squared_error: float  # summed over an image's values in [0, 1], mean over images
    psnr: float  # dB
    ssim: float
    kl: float  # nats per image; nan where there is no posterior
    fd: float  # of reconstructions to the train split


def _params_of(arm: str, base: AutoencoderParams) -> AutoencoderParams:
    return AutoencoderParams.model_validate({**base.model_dump(), **ARMS[arm]})


def _digest_of(params: AutoencoderParams) -> str:
    return hashlib.sha256(params.model_dump_json(exclude={"epochs", "figures"}).encode()).hexdigest()[:_DIGEST]


def _run(
    setting: Setting,
    params: AutoencoderParams,
    train: Tensor,
    test: ImageSplit,
    extractor: FeatureExtractor,
    reference: Tensor,
) -> Result:
    """Train for the setting's time, then score; ``train`` is uint8 (N, C, H, W), ``reference`` its features."""

    def training(steps: int) -> Any:
        return train_autoencoder(train, params, extractor.device, setting.seed, _SERIES, steps)

    steps = max(1, round(setting.seconds / seconds_per_step(training)))
    autoencoder, taken = timed(lambda: training(steps))
    scores, coded = score(autoencoder, test, extractor.device, setting.seed)
    return Result(
        parameters=sum(parameter.numel() for parameter in autoencoder.parameters()),
        latent_size=scores["latent_size"],
        steps=steps,
        seconds_taken=taken,
        half_squared_error=0.5 * scores["mse"] * math.prod(test.images.shape[1:]),
        psnr=scores["psnr"],
        ssim=scores["ssim"],
        kl=math.nan if scores["kl"] is None else scores["kl"],
        fd=frechet_distance(extractor.extract(coded.decoded)[0], reference),
    )


def _table(results: dict[Setting, Result], settings: list[Setting]) -> str:
    """One row per arm: means over its seeds, with the standard deviation where there are several."""
    rows = []
    for arm in dict.fromkeys(setting.arm for setting in settings):
        of_arm = [asdict(results[setting]) for setting in settings if setting.arm == arm]

        def cell(name: str, digits: int, runs: list[dict[str, float]] = of_arm) -> str:
            column = torch.tensor([run[name] for run in runs], dtype=torch.float64)
            if column.isnan().any():
                return "-"
            return f"{column.mean():.{digits}f}" + (f" ± {column.std():.{digits}f}" if len(column) > 1 else "")

        parameters, latent_size = of_arm[0]["parameters"], of_arm[0]["latent_size"]
        with_statistics = [
            cell("half_squared_error", 2),
            cell("psnr", 2),
            cell("ssim", 4),
            cell("kl", 1),
            cell("fd", 2),
        ]
        rows.append(
            [
                arm,
                str(len(of_arm)),
                f"{parameters:,}",
                str(latent_size),
                cell("steps", 0),
                cell("seconds_taken", 0),
                *with_statistics,
            ]
        )
    head = [
        "arm",
        "seeds",
        "parameters",
        "latent numbers",
        "steps",
        "seconds",
        "0.5 x summed squared error",
        "PSNR (dB)",
        "SSIM",
        "KL (nats)",
        "FD",
    ]
    return markdown_table(head, rows)


def main() -> None:
    """Run what the CSV file does not have yet, print the table and write it beside that file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="name of a recipe; without it, params.yaml")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=650.0, help="of each training, CPU time per thread")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/autoencoders.csv"))
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    params = validate(read_recipe(arguments.recipe, root) if arguments.recipe else read_params())
    extractor = load_feature_extractor(set_up(params.compute.device, arguments.threads))
    train_split, test = read_split(PREPARED, "train"), read_split(PREPARED, "test")
    train, reference = train_split.images.to_memory(), features_of(extractor, train_split)
    real = frechet_distance(features_of(extractor, test), reference)

    params = {arm: _params_of(arm, params.autoencoder) for arm in arguments.arms}
    for arm in arguments.arms:
        autoencoder = build_seeded(params[arm], train.shape[1:], extractor.device, 0, _SERIES)
        count = sum(parameter.numel() for parameter in autoencoder.parameters())
        print(f"{arm}: {count:,} parameters, latents {tuple(autoencoder.latent_shape)}")
    weights = sha256_file(FEATURE_EXTRACTOR)[:_DIGEST]
    settings = [
        Setting(arm, _digest_of(params[arm]), weights, seed, arguments.seconds, arguments.threads)
        for arm in arguments.arms
        for seed in range(arguments.seeds)
    ]
    done = recorded(arguments.csv, Setting, Result)
    for setting in tqdm([setting for setting in settings if setting not in done], desc=_SERIES, disable=None):
        result = _run(setting, params[setting.arm], train, test, extractor, reference)
        record(arguments.csv, setting, result)
    table = _table(recorded(arguments.csv, Setting, Result), settings)
    text = f"{table}\nFD is to the train split; real test images score {real:.2f}.\n"
    arguments.csv.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
