"""Speed of every network in every task, precision and number of devices: one table, on whatever device there is.

    python benchmarks/gpu.py --out docs/gpu_h100.md      # all rows; name the file after your card
    python benchmarks/gpu.py --quick                     # a look within a minute, on a CPU too

Networks and batches are the default recipe's, on random images and latents. `dit_b2` is DiT-B/2 on latents of 4x32x32
in batches of 32; it is left out where the device is a CPU or has less than 16 GB. Trainings are the stages' own. A row
is the median of some turns after one that warms up. FLOPs are those of products, convolutions and attention. The share
is that of the card's dense peak in the row's precision. With several devices each has a whole batch. GPUs take their
fastest algorithms (`compute.deterministic: false`).
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import markdown_table
from gpu_rows import ROOT, TASKS, Effort, Result, Row, measure

from latentline.core.errors import UserError
from latentline.runtime.compute import device_count, gpu_name, memory_bytes, set_up
from latentline.runtime.precision import Precision

_PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16", "fp16")
_COMPILED_TASKS = ("train", "sample", "decode")  # what the stages compile
_LARGE, _LARGE_BYTES = "dit_b2", 15 << 30  # a card that is sold with 16 GB has a little less
_HEAD = ("network", "task", "precision", "compiled", "devices", "images a step")
_MEASURED = ("ms a step", "images/s", "TFLOP/s", "of peak", "peak MiB")


def rows(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """Return the rows that the arguments choose and the device can compute."""
    most = device_count(device) or max(arguments.devices or [1])
    counts = arguments.devices or [count for count in (1, 2, 4, 8) if count <= most]
    precisions = arguments.precisions or [name for name in _PRECISIONS if device.type == "cuda" or name != "tf32"]
    compiled = {"no": [False], "yes": [True], "both": [False, True]}[arguments.compiled]
    large = device.type == "cuda" and memory_bytes(device) >= _LARGE_BYTES
    networks = arguments.networks or [name for name in TASKS if large or name != _LARGE]
    every = product(networks, ("train", "sample", "encode", "decode", "extract"), precisions, compiled, counts)
    return [
        Row(network, task, precision, whole, count)
        for network, task, precision, whole, count in every
        if task in TASKS[network]
        and task in (arguments.tasks or [task])
        and (not whole or task in _COMPILED_TASKS)
        and (task != "extract" or precision == "float32")  # features are float32 always
        and (count == 1 or (task == "train" and network != "feature_extractor"))  # the others share no training
        and count <= most
    ]


def measured(row: Row, effort: Effort) -> Result:
    """Measure a row in a folder of its own; several devices in processes of their own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if row.devices == 1:
            return measure(row, effort)
        command = [sys.executable, str(Path(__file__).resolve()), "--row", json.dumps([asdict(row), asdict(effort)])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise UserError(f"the processes of a row ended with status {done.returncode}")
        return Result(**json.loads(done.stdout))


def line(row: Row, effort: Effort) -> list[str]:
    """Return the cells of a row; a row that cannot be measured says why."""
    cells = [row.network, row.task, row.precision, "yes" if row.compiled else "no", str(row.devices)]
    try:
        result = measured(row, effort)
    except torch.OutOfMemoryError:
        return [*cells, "-", "out of memory", "-", "-", "-", "-"]
    except UserError as error:
        print(f"{row}: {error}", file=sys.stderr)
        return [*cells, "-", "not measured", "-", "-", "-", "-"]
    share = "-" if result.share is None else f"{result.share:.1%}"
    memory = "-" if result.memory_mib is None else f"{result.memory_mib:.0f}"
    speed = f"{1e3 * result.images / result.ms:,.0f}"
    return [*cells, str(result.images), f"{result.ms:.4g}", speed, f"{result.tflops:.3g}", share, memory]


def machine(device: torch.device, effort: Effort) -> str:
    """Return what was measured on: device, threads and load, torch, commit."""
    described = gpu_name(device)
    if described is None:
        load = f"load {os.getloadavg()[0]:.1f} at the start"
        described = f"{_processor()}, {effort.threads} of {os.cpu_count()} threads, {load}"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    return f"Device: {described}. torch {torch.__version__}, commit {commit}."


def _processor() -> str:
    """Return the model of the CPU, where Linux names it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=TASKS)
    parser.add_argument("--tasks", nargs="+", choices=sorted({task for tasks in TASKS.values() for task in tasks}))
    parser.add_argument("--precisions", nargs="+", choices=_PRECISIONS)
    parser.add_argument("--compiled", choices=("no", "yes", "both"), help="without it: both on a GPU, else no")
    parser.add_argument("--devices", type=int, nargs="+", help="without it: 1, 2, 4, 8 as far as there are GPUs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, for each device")
    parser.add_argument("--steps", type=int, default=50, help="of each turn of a training")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000, help="of each call that trains nothing")
    parser.add_argument("--quick", action="store_true", help="few steps, not compiled, on one device")
    parser.add_argument("--out", type=Path, help="Markdown file; without it the table is printed")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # used by the benchmark itself
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Measure the chosen rows and write the table, or measure the row of --row."""
    arguments = _arguments(given)
    if arguments.row:
        row, effort = json.loads(arguments.row)
        print(json.dumps(asdict(measure(Row(**row), Effort(**effort)))))
        return
    device = set_up(arguments.device, arguments.threads, deterministic=False)
    effort = Effort(arguments.steps, arguments.turns, arguments.images, arguments.device, arguments.threads)
    arguments.compiled = arguments.compiled or ("both" if device.type == "cuda" else "no")
    if arguments.quick:
        effort = Effort(2, 1, 25, arguments.device, arguments.threads)
        arguments.compiled, arguments.devices = "no", [1]
        arguments.precisions = arguments.precisions or ["float32", "bf16"]
    about = machine(device, effort)
    lines, text = [], ""
    for row in rows(arguments, device):
        lines.append(line(row, effort))
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
        text = f"{about}\n\n{markdown_table([*_HEAD, *_MEASURED], lines)}"
        if arguments.out is not None:  # after each row: a run that is cut off has its table
            arguments.out.write_text(f"# Measured: {gpu_name(device) or 'a CPU'}\n\n{text}")
    if arguments.out is None:
        print(text, end="")


if __name__ == "__main__":
    main()
