"""Train a denoiser on synthetic latents of 4x32x32 in float16 that stay on disk, against the same latents in memory.

    python benchmarks/larger_than_memory.py --count 1000000

Writes the cache to a temporary folder (8 KiB per latent), then measures, each in a process of its own:

gathering   a shuffled batch of latents from memory, from disk, and from disk with an empty page cache: each row once
training    steps of a denoiser; memory and disk take turns, so that other work on the machine harms both alike
stage       train_denoiser itself on that cache, stopped after some seconds: its peak resident memory

Linux only: it empties the page cache of its own files. Needs the latents' size on disk, and once more in memory for the
comparison.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import set_params

from latentline.core.labels import LabelTable, build_schema
from latentline.core.paths import AUTOENCODER, LATENT_SHARDS
from latentline.core.seeds import generator
from latentline.data.batches import EpochSampler
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import build_conditioning
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process
from latentline.latents.cache import LatentSplit, read_latents, read_stats, write_cache
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import channels_last, set_up, to_device
from latentline.tools.params_file import read_recipe
from latentline.training.step_inputs import RowSource
from stages.train_denoiser.latents import Latents

ROOT = Path(__file__).resolve().parent.parent
_SHAPE, _CLASSES = (4, 32, 32), 10
_PORTION = 500
_NETWORK: dict[str, Any] = {"channels": [32, 32], "blocks": 1, "attention_levels": [], "patch_size": 4}
_STEPS, _ROUNDS = 10, 7
_GATHERED = (64, 256, 512)


def write(folder: Path, count: int) -> None:
    """Write a checkpoint that the stage accepts, and a cache of ``count`` random latents.

    A block of latents is written again and again, since only their size matters.
    """
    digest = write_autoencoder(folder)
    schema = build_schema(tuple(map(str, range(_CLASSES))), ())
    block = torch.randn(_PORTION, *_SHAPE, generator=generator(0, "larger than memory")).half()

    def portions(rows: int) -> Iterator[LatentSplit[Tensor]]:
        for start in range(0, rows, _PORTION):
            here = min(_PORTION, rows - start)
            classes = (torch.arange(start, start + here) % _CLASSES)[:, None].float()
            yield LatentSplit(block[:here], LabelTable(schema, classes))

    splits: dict[str, Iterable[LatentSplit[Tensor]]] = {
        "train": portions(count),
        "val": portions(1000),
        "test": portions(1000),
    }
    write_cache(folder, splits, schema=schema, autoencoder=digest)


def write_autoencoder(folder: Path) -> str:
    """Write the identity, for "images" of the latents' shape; return its sha256."""
    from latentline.core.files import sha256_file

    constructor = {"image_shape": list(_SHAPE)}
    save_checkpoint(
        folder / AUTOENCODER, kind="autoencoder", name="identity", constructor=constructor, trained_on={}, tensors={}
    )
    return sha256_file(folder / AUTOENCODER)


def compare(folder: Path, batch: int, threads: int) -> dict[str, object]:
    """Measure the seconds of gathering and of steps, from memory and from disk."""
    device = set_up("cpu", threads)
    stats, split = read_stats(folder), read_latents("train", folder)
    conditioning = build_conditioning("class", stats.schema)
    sources = {
        "memory": Latents(RowSource(split.latents.to_memory()), split.labels, conditioning, stats.normalizer, device),
        "disk": Latents(RowSource(split.latents), split.labels, conditioning, stats.normalizer, device),
    }
    gathered = gathering(sources, folder)
    steps = {name: training(latents, batch, device) for name, latents in sources.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(1 + _ROUNDS):
        for name, found in seconds.items():
            started = time.perf_counter()
            for step in range(turn * _STEPS, (turn + 1) * _STEPS):
                steps[name](step)
            if turn:  # the first warms up
                found.append((time.perf_counter() - started) / _STEPS)
    ratios = [disk / memory for disk, memory in zip(seconds["disk"], seconds["memory"], strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"gathering": gathered, "training": medians, "ratio": statistics.median(ratios)}


def gathering(sources: dict[str, Latents], folder: Path) -> dict[str, dict[str, float]]:
    """Measure the seconds of a batch of each size: the median of some, all of other rows."""
    found: dict[str, dict[str, float]] = {str(size): {} for size in _GATHERED}
    for name, source in (
        ("memory", "memory"),
        ("disk", "disk"),
        ("empty cache", "disk"),
        ("empty cache, prefetched", "disk"),
    ):
        for size in _GATHERED:
            order, seconds = EpochSampler(len(sources[source]), size, seed=size), []
            for step in range(10):
                if name.startswith("empty"):
                    empty_cache(folder)
                if name.endswith("prefetched"):
                    sources[source].source.prefetch(order.rows(step))
                    time.sleep(0.1)  # in which a step is computed
                started = time.perf_counter()
                sources[source].z0(order.rows(step))
                seconds.append(time.perf_counter() - started)
            found[str(size)][name] = statistics.median(seconds)
    return found


def empty_cache(folder: Path) -> None:
    """Drop the shards from the system's page cache."""
    for path in (folder / LATENT_SHARDS).glob("train-*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def training(latents: Latents, batch: int, device: torch.device) -> Callable[[int], None]:
    """Return a training step of a new denoiser, as stage train_denoiser takes it."""
    torch.manual_seed(0)
    network = to_device(build_denoiser("unet", latent_shape=_SHAPE, cond_dim=_CLASSES, **_NETWORK), device)
    process, order = build_process("flow", "velocity"), EpochSampler(len(latents), batch, seed=0)
    adamw = torch.optim.AdamW(network.parameters(), fused=True)

    def step(number: int) -> None:
        rows, draw = order.rows(number), generator(0, "step", number)
        z0 = channels_last(latents.z0(rows))
        latents.source.prefetch(order.rows(number + 1))
        noise = torch.randn(z0.shape, generator=draw)
        denoising_loss(
            network, process, z0, latents.condition(rows), torch.rand(len(rows), generator=draw), noise
        ).mean().backward()
        adamw.step()
        adamw.zero_grad()

    return step


def stage(folder: Path, batch: int, threads: int, seconds: float) -> dict[str, float]:
    """Run the stage for some seconds, then stop it; return its exit status and peak resident memory in GiB."""
    content = read_recipe("default", ROOT)
    params = {
        **{f"denoiser.{name}": value for name, value in _NETWORK.items()},
        "denoiser.optimizer.batch_size": batch,
        "denoiser.preview.every_epochs": 0,  # images of 4 channels cannot be drawn
        "compute.threads": threads,
        "compute.device": "cpu",
    }
    set_params(content, params)
    YAML().dump(content, folder / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    process = subprocess.Popen([sys.executable, "-m", "stages.train_denoiser"], cwd=folder, env=environment)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGTERM)  # Popen.send_signal would drop the usage of a stage that has ended
    _, status, usage = os.wait4(process.pid, 0)
    return {"status": os.waitstatus_to_exitcode(status), "peak_gib": usage.ru_maxrss / (1 << 20)}


def main() -> None:
    """Write the cache, run all parts and print their results; or run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="latents")
    parser.add_argument("--batch", type=int, default=64, help="of a training step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="until the stage is stopped")
    parser.add_argument("--part", choices=["write", "compare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "write":
        return write(arguments.folder, arguments.count)
    if arguments.part == "compare":
        return print(json.dumps(compare(arguments.folder, arguments.batch, arguments.threads)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = [
            sys.executable,
            __file__,
            "--folder",
            name,
            *(f"--{key}={getattr(arguments, key)}" for key in ("count", "batch", "threads")),
        ]
        started = time.perf_counter()
        with subprocess.Popen([*common, "--part", "write"]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit("the latents could not be written")
        size = sum(path.stat().st_size for path in (folder / LATENT_SHARDS).iterdir())
        taken, peak = time.perf_counter() - started, usage.ru_maxrss / (1 << 20)
        print(f"written: {size / 2**30:.2f} GiB in {taken:.0f} s, peak {peak:.2f} GiB resident", flush=True)
        found = json.loads(subprocess.run([*common, "--part", "compare"], stdout=subprocess.PIPE, check=True).stdout)
        for batch, seconds in found["gathering"].items():
            print(f"gather {batch}: " + ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items()))
        per_step = ", ".join(f"{name} {1000 * value:.0f} ms a step" for name, value in found["training"].items())
        settings = f"unet {_NETWORK}, batch {arguments.batch}, {arguments.threads} threads"
        print(f"{settings}: {per_step}; disk / memory {found['ratio']:.3f}", flush=True)
        ended = stage(folder, arguments.batch, arguments.threads, arguments.seconds)
        print(
            f"train_denoiser: peak {ended['peak_gib']:.2f} GiB resident, exit status {ended['status']} (130 = stopped)"
        )
    return None


if __name__ == "__main__":
    main()
