"""Speed of training by two processes of one thread each, against one process of one thread and of two.

    python benchmarks/ranks.py

Trains the default recipe's networks on random images and latents, since only the shapes matter. The settings take turns
in one run; the median turn counts. Beside the time on the clock stands the processors' time of all processes together:
other work on the machine harms it less, and it shows what sharing costs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from latentline.autoencoders.build import build_autoencoder
from latentline.core.condition import Condition
from latentline.core.load_params import validate
from latentline.core.seeds import generator
from latentline.denoisers.build import build_denoiser
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process
from latentline.runtime.compute import channels_last, set_up, to_device
from latentline.runtime.parallel import Ranks, init_distributed
from latentline.runtime.resume import ResumeFile
from latentline.tools.params_file import read_recipe
from latentline.training.config import optimizer_of
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import Loss, MicroBatch, micro_batches

_IMAGE, _CLASSES = (1, 28, 28), 10
_STEPS, _TURNS = 10, 3
_SETTINGS = ((1, 1), (1, 2), (2, 1))  # processes, threads of each; the first is the unit of the ratios


def _autoencoder(params: Any, ranks: Ranks) -> tuple[nn.Module, Loss]:
    params = params.autoencoder
    autoencoder = to_device(
        build_autoencoder(params.name, **params.constructor(), image_shape=list(_IMAGE)), torch.device("cpu")
    )
    x = channels_last(
        torch.rand(params.optimizer.batch_size, *_IMAGE, generator=generator(0, "x")) * 2 - 1
    )  # (B, C, H, W)

    def loss(step: int) -> Iterator[MicroBatch]:
        noise = autoencoder.sample_training_noise(len(x), generator(0, "noise", step))
        for weight, rows in micro_batches(len(x), 1, ranks):
            yield weight, *autoencoder.loss(x[rows], tuple(part[rows] for part in noise), step)[:2]

    return autoencoder, loss


def _denoiser(params: Any, ranks: Ranks) -> tuple[nn.Module, Loss]:
    parts = params.autoencoder
    shape = build_autoencoder(parts.name, **parts.constructor(), image_shape=list(_IMAGE)).latent_shape
    params = params.denoiser
    network = to_device(
        build_denoiser(params.name, latent_shape=shape, cond_dim=_CLASSES, **params.constructor()), torch.device("cpu")
    )
    process = build_process(params.process.path, params.process.prediction)
    count = params.optimizer.batch_size
    condition = Condition(nn.functional.one_hot(torch.arange(count) % _CLASSES, _CLASSES).float())  # (B, F)

    def loss(step: int) -> Iterator[MicroBatch]:
        draw = generator(0, "noise", step)
        z0, noise = (channels_last(torch.randn(count, *shape, generator=draw)) for _ in range(2))
        t = torch.rand(count, generator=draw)
        for weight, rows in micro_batches(count, 1, ranks):
            value = denoising_loss(network, process, z0[rows], condition.rows(rows), t[rows], noise[rows]).mean()
            yield weight, value, {"loss": value}

    return network, loss


NETWORKS = {"autoencoder": _autoencoder, "denoiser": _denoiser}


def measure(name: str, processes: int, threads: int) -> None:
    """Train in each process; rank 0 prints the seconds of a step, on the clock and of all processors together."""
    params = validate(read_recipe("default", Path(__file__).resolve().parent.parent))
    _, ranks = init_distributed(set_up("cpu", threads), processes, 1)
    network, loss = NETWORKS[name](params, ranks)
    times: list[tuple[float, float]] = []

    def run(epochs: int) -> None:
        saving = Saving(ResumeFile("ranks", {}, ()), float("inf"))
        fit(
            network,
            loss,
            TrainConfig(name, epochs, _STEPS, optimizer_of(params.denoiser.optimizer), saving),
            ranks=ranks,
        )
        times.append((time.perf_counter(), time.process_time()))

    for _ in range(2):  # the first warms up
        run(1)
    (clock, processor), (clock_end, processor_end) = times
    spent = torch.tensor([(processor_end - processor) / _STEPS], dtype=torch.float64)
    ranks.all_reduce([spent])
    ranks.exit_non_main()
    print(json.dumps([(clock_end - clock) / _STEPS, spent.item()]))


def main() -> None:
    """Measure all and print a table in Markdown, or measure the setting of --setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--setting", nargs=3, metavar=("NETWORK", "PROCESSES", "THREADS"), help="used by the benchmark itself"
    )
    if setting := parser.parse_args().setting:
        measure(setting[0], int(setting[1]), int(setting[2]))
        return
    print("| network | processes x threads | ms per step | speed | processors' ms per step | efficiency |")
    print("|---|---|---|---|---|---|")
    for name in NETWORKS:
        turns = [[_measured(name, *setting) for setting in _SETTINGS] for _ in range(_TURNS)]
        clocks, processors = (
            [statistics.median(turn[index][kind] for turn in turns) for index in range(len(_SETTINGS))]
            for kind in range(2)
        )
        for (processes, threads), clock, processor in zip(_SETTINGS, clocks, processors, strict=True):
            ratios = f"{clocks[0] / clock:.2f} | {1e3 * processor:.0f} | {processors[0] / processor:.2f}"
            print(f"| {name} | {processes} x {threads} | {1e3 * clock:.0f} | {ratios} |")


def _measured(name: str, processes: int, threads: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:  # for the state that a training locks
        command = [sys.executable, __file__, "--setting", name, str(processes), str(threads)]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    clock, processor = json.loads(done.stdout)
    return clock, processor


if __name__ == "__main__":
    main()
