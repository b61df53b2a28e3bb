"""Prepare and iterate synthetic 3x64x64 JPEG images: this project's store against torchvision's ImageFolder.

    python benchmarks/data_store.py --count 200000 --workers 2

Every part runs in a process of its own. Its memory (proportional set size, summed over it and its workers) is sampled
ten times a second from outside. Linux only. The images are written first and removed at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

_CLASSES = 10
_BATCH = 128


def write_images(folder: Path, count: int) -> None:
    """Write smooth colour fields with a little noise as JPEG, about the size and decoding time of small photographs."""
    random = np.random.default_rng(0)
    for label in range(_CLASSES):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, np.int16) + random.integers(-8, 9, (64, 64, 3), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
            folder / str(number % _CLASSES) / f"{number:07d}.jpg", quality=90
        )


def prepare_part(folder: Path, workers: int) -> int:
    """Write the store; return the number of images."""
    from latentline.data.store import read_card
    from stages.download.prepare import Options, prepare
    from stages.download.registry import read_source
    from stages.download.source import SourceOptions

    none = folder / "none"
    none.mkdir(exist_ok=True)
    (none / "no_labels.csv").touch()
    options_of_source = SourceOptions(
        "image_folder", folder / "images", none / "no_labels.csv", None, "balanced", 28, 1.0, none, none
    )
    options = Options(None, None, {"val": 0.05, "test": 0.1}, None, 0.0, horizontal_flip=False, seed=0, workers=workers)
    prepare(read_source(options_of_source), folder / "prepared", options)
    return sum(read_card(folder / "prepared").counts.values())


def read_in_order_part(folder: Path, workers: int) -> int:
    """Read all train images in the stored order, as float in [-1, 1]."""
    from latentline.data.store import read_split

    return sum(map(len, read_split(folder / "prepared", "train").batches(_BATCH)))


def read_shuffled_part(folder: Path, workers: int) -> int:
    """Read one epoch of shuffled batches of the train images, as float in [-1, 1]."""
    from latentline.data.batches import EpochSampler
    from latentline.data.store import read_split, to_unit_range

    images = read_split(folder / "prepared", "train").images
    order = EpochSampler(len(images), _BATCH, seed=0)
    return sum(len(to_unit_range(images[order.rows(step)])) for step in range(order.steps_per_epoch))


def torchvision_part(folder: Path, workers: int) -> int:
    """Read one shuffled epoch of all images through ImageFolder and DataLoader, as float in [0, 1]."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    loader = DataLoader(ImageFolder(str(folder / "images"), ToTensor()), _BATCH, shuffle=True, num_workers=workers)
    return sum(len(images) for images, _ in loader)


PARTS = {
    "prepare": prepare_part,
    "read in order": read_in_order_part,
    "read shuffled": read_shuffled_part,
    "torchvision shuffled": torchvision_part,
}


def measure(part: str, folder: Path, workers: int) -> dict[str, float]:
    """Run one part in a new process; return its images, its seconds without imports, and the peak of its memory."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_of_tree(process.pid))
        time.sleep(0.1)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{part} failed")
    return {**json.loads(output), "peak_mib": peak / 1024}


def _memory_of_tree(process: int) -> int:
    """Return the proportional set size in KiB: shared pages count once."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, StopIteration):  # it has just ended
        return 0
    return own + sum(_memory_of_tree(int(child)) for child in children)


def main() -> None:
    """Run all parts and print a table, or run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="images")
    parser.add_argument("--workers", type=int, default=2, help="processes, for both")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        import torch  # so that its import is not in the time

        torch.set_num_threads(1)
        started = time.perf_counter()
        images = PARTS[arguments.part](arguments.folder, arguments.workers)
        print(json.dumps({"images": images, "seconds": time.perf_counter() - started}))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", arguments.count)
        print(f"{'part':24}{'images':>10}{'seconds':>10}{'images/s':>10}{'peak MiB':>10}")
        for part in PARTS:
            found = measure(part, Path(folder), arguments.workers)
            rate = found["images"] / found["seconds"]
            print(
                f"{part:24}{found['images']:>10}{found['seconds']:>10.1f}{rate:>10.0f}{found['peak_mib']:>10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
