"""Few steps: Frechet distance of samples against network evaluations per image, for each sampler of the denoiser.

    dvc repro                              # the checkpoints that are measured
    python benchmarks/samplers.py --count 2000 --guidance 1.0 2.4 --time-grids uniform karras shifted:2

Each point is a line of the CSV file. A line that exists is not measured again, so an interrupted benchmark continues.
All points start from the same noise. A guided evaluation counts two, and a step of Heun two evaluations. A sampler that
cannot spend a budget exactly is left out of it. Distances are to the train split, and grow as images get fewer: the
reference is the distance of as many real test images, or of all of them. The samplers' own settings (eta, variance,
sigma_scale, diffusion), the guided times, what guidance leads away from, the seed and the batch size are
those of params.yaml. Samples do not get the moments of the training latents, which hold for one setting alone.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from tqdm import tqdm

matplotlib.use("Agg")  # no screen needed

import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import features_of, markdown_table, record, recorded

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.load_params import PARAMS_FILE, read_params, validate
from latentline.core.paths import DENOISER, FEATURE_EXTRACTOR, PREPARED
from latentline.data.store import read_split
from latentline.denoisers.conditioning import labels_for_samples
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.denoisers.sampling import SamplingConfig, draw_latents
from latentline.diffusion.process import Process
from latentline.diffusion.time_grid import TIME_GRIDS
from latentline.feature_extractors.load import load_feature_extractor
from latentline.figures.text import PlainLogFormatter
from latentline.latents.cache import LatentStats, read_labels, read_stats
from latentline.runtime.compute import set_up
from latentline.samplers.registry import SAMPLERS, network_evaluations, require_serves
from latentline.samplers.settings import SamplingSettings
from stages.evaluate.distances import frechet_distance
from stages.sample.params import SampleParams

_SERIES = "benchmark_samplers"
_DIGEST = 12  # characters of a sha256

Found = dict[tuple[str, float], dict[str, dict[int, float]]]
"""(time grid, guidance) -> sampler -> evaluations -> FD."""


@dataclass(frozen=True)
class Run:
    """The columns that all points of a plot share."""

    denoiser: str  # the beginning of its checkpoint's sha256, which depends on the autoencoder, too
    feature_extractor: str  # likewise
    params: str  # the samplers' own
    seed: int
    count: int


@dataclass(frozen=True)
class Setting(Run):
    """The first columns of a line of the CSV file."""

    time_grid: str
    guidance: float
    sampler: str
    evaluations: int  # per image


@dataclass(frozen=True)
class Result:
    """The measured columns."""

    fd: float
    images_per_second: float  # without the time of scoring


@dataclass(frozen=True)
class Pipeline:
    """The networks that draw images, and their settings."""

    autoencoder: TrainedAutoencoder
    denoiser: Denoiser
    stats: LatentStats
    params: SampleParams

    def draw(self, setting: Setting, plan: SamplingConfig) -> Tensor:
        """Draw uint8 images (count, C, H, W), classes in turn."""
        labels = labels_for_samples(read_labels(self.stats.schema), setting.count)
        images = []
        for indices in torch.arange(setting.count).split(self.params.batch_size):
            z0 = draw_latents(self.denoiser, plan, setting.seed, _SERIES, indices, labels[indices])
            images.append(self.autoencoder.decode(self.stats.normalizer.restore(z0)))
        return torch.cat(images)


def _grid(name: str) -> str:
    """Check a time grid, ``kind`` or ``shifted:SHIFT``, and return its name."""
    kind, _, shift = name.partition(":")
    if kind not in TIME_GRIDS or (kind == "shifted") != bool(shift):
        raise argparse.ArgumentTypeError(
            f"{name!r}, expected uniform, karras, discrete or shifted:SHIFT, such as shifted:2"
        )
    if shift and not float(shift) > 0:
        raise argparse.ArgumentTypeError(f"{name!r}, expected a shift above 0")
    return name


def _plan(setting: Setting, sample: SampleParams, denoiser: Denoiser) -> SamplingConfig | None:
    """Return how to spend the setting's evaluations exactly; None where that cannot be done."""
    kind, _, shift = setting.time_grid.partition(":")
    asked = replace(
        SamplingSettings.of(sample),
        sampler=setting.sampler,
        guidance_scale=setting.guidance,
        time_grid=kind,
        time_shift=float(shift or 1),
        negative_prompt="",
    )
    for steps in range(setting.evaluations, 0, -1):
        plan = replace(asked, steps=steps).config(denoiser)
        if network_evaluations(setting.sampler, plan.times, plan.guidance) == setting.evaluations:
            return plan
    return None


def _serves(sampler: str, process: Process) -> bool:
    try:
        require_serves(sampler, process.path.name, process.prediction)
    except UserError as error:
        print(f"left out: {error}")
        return False
    return True


def _of_run(results: dict[Setting, Result], run: Run) -> Found:
    """Return the results of one run."""
    found: Found = {}
    for setting, result in sorted(
        results.items(), key=lambda item: (item[0].time_grid, item[0].guidance, item[0].sampler, item[0].evaluations)
    ):
        if Run(setting.denoiser, setting.feature_extractor, setting.params, setting.seed, setting.count) == run:
            found.setdefault((setting.time_grid, setting.guidance), {}).setdefault(setting.sampler, {})[
                setting.evaluations
            ] = result.fd
    return found


def _budgets(found: Found) -> list[int]:
    """Return all numbers of evaluations, in ascending order."""
    return sorted({budget for samplers in found.values() for points in samplers.values() for budget in points})


def _table(found: Found) -> str:
    budgets = _budgets(found)
    rows = [
        [grid, f"{guidance:g}", sampler, *(f"{points[budget]:.2f}" if budget in points else "-" for budget in budgets)]
        for (grid, guidance), samplers in found.items()
        for sampler, points in samplers.items()
    ]
    return markdown_table(["time grid", "guidance", "sampler", *map(str, budgets)], rows)


def _plot(path: Path, found: Found, reference: float) -> None:
    """Draw a row of panels per time grid, a column per guidance, a curve per sampler."""
    grids, scales = sorted({grid for grid, _ in found}), sorted({guidance for _, guidance in found})
    budgets = _budgets(found)
    size = (4.4 * len(scales), 3.4 * len(grids))
    figure, panels = plt.subplots(len(grids), len(scales), figsize=size, squeeze=False, sharex=True, sharey=True)
    for (grid, guidance), samplers in found.items():
        axes = panels[grids.index(grid), scales.index(guidance)]
        for sampler, points in samplers.items():
            axes.plot(
                list(points),
                list(points.values()),
                marker="o",
                markersize=3,
                color=f"C{SAMPLERS.index(sampler)}",
                label=sampler,
            )
        axes.axhline(reference, linestyle="--", color="grey", label="real test images")
        axes.set(xscale="log", yscale="log", xlabel="network evaluations per image", ylabel="Frechet distance to train")
        axes.set_title(f"Samples: {grid} grid, guidance {guidance:g}", fontsize=9)
        axes.set_xticks(budgets, map(str, budgets))
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_formatter(PlainLogFormatter())
        axes.yaxis.set_minor_formatter(PlainLogFormatter())
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="images of each point")
    parser.add_argument(
        "--evaluations", type=int, nargs="+", default=[4, 8, 11, 16, 32, 64], help="of the network, per image"
    )
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.4])
    parser.add_argument("--time-grids", type=_grid, nargs="+", default=["uniform"])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument(
        "--csv", type=Path, default=Path("benchmarks/samplers.csv"), help="the plot and the table are written beside it"
    )
    return parser.parse_args()


def main() -> None:
    """Measure what the CSV file does not have yet; plot and print all that it has of these checkpoints."""
    arguments = _arguments()
    params = validate(read_params(PARAMS_FILE))
    device = set_up(params.compute.device, params.compute.threads)
    autoencoder, extractor, stats = load_autoencoder(device), load_feature_extractor(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(device, stats)
    pipeline = Pipeline(autoencoder, denoiser, stats, params.sample)

    names = (
        "eta",
        "variance",
        "sigma_scale",
        "diffusion",
        "guidance_start",
        "guidance_end",
        "guidance_rescale",
        "guide",
    )
    own = {name: getattr(params.sample, name) for name in names}
    own_settings = " ".join(f"{name}={value}" for name, value in own.items())
    run = Run(
        sha256_file(DENOISER)[:_DIGEST],
        sha256_file(FEATURE_EXTRACTOR)[:_DIGEST],
        own_settings,
        params.seed,
        arguments.count,
    )
    settings = [
        Setting(**vars(run), time_grid=grid, guidance=guidance, sampler=sampler, evaluations=evaluations)
        for grid in arguments.time_grids
        for guidance in sorted({denoiser.conditioning.guidance(scale, "--guidance") for scale in arguments.guidance})
        for sampler in arguments.samplers
        if _serves(sampler, denoiser.process)
        for evaluations in arguments.evaluations
    ]
    done = recorded(arguments.csv, Setting, Result)
    plans = {setting: _plan(setting, params.sample, denoiser) for setting in settings if setting not in done}
    reference = features_of(extractor, read_split(PREPARED, "train"))
    real = read_split(PREPARED, "test").images[: arguments.count]
    real_distance = frechet_distance(extractor.extract(real)[0], reference)
    for setting, plan in tqdm([(setting, plan) for setting, plan in plans.items() if plan], desc=_SERIES, disable=None):
        started = time.perf_counter()
        images = pipeline.draw(setting, plan)
        taken = time.perf_counter() - started
        record(
            arguments.csv,
            setting,
            Result(frechet_distance(extractor.extract(images)[0], reference), arguments.count / taken),
        )

    found = _of_run(recorded(arguments.csv, Setting, Result), run)
    caption = f"Frechet distance of {run.count} images to the train split"
    text = f"{_table(found)}\n{caption}; {len(real)} real test images score {real_distance:.2f}.\n"
    arguments.csv.with_suffix(".md").write_text(text)
    _plot(arguments.csv.with_suffix(".png"), found, real_distance)
    print(text)


if __name__ == "__main__":
    main()
