"""This project beside other libraries: trained for the same processor time, on the same images and the same machine.

    python -m venv venv && source venv/bin/activate
    pip install -e '.[dev]' denoising-diffusion-pytorch==2.3.4 smalldiffusion==0.5.0
    dvc repro download                           # the images, which need classes
    python benchmarks/peers.py --minutes 20      # of each training; about three hours in all
    python benchmarks/peers.py --quick           # does it run? numbers mean nothing

``peer_libraries.py`` has what each library trains and how it draws. A library that is not installed is left out.

A classifier measures distances and predicts classes. It trains on the training split, and no contestant uses it. Its
architecture and seed differ from the pipeline's. The guidance scale of a library is the one of its ``scales`` with the
lowest distance by another classifier; this project's is the recipe's, chosen before in the same way.

Time is the processor's, per thread, so that other work on the machine harms little. Each contestant is a line of the
CSV file; a line that exists is not measured again. Images drawn are beside that file.
"""

import argparse
import hashlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from common import markdown_table, record, recorded, timed
from peer_libraries import LIBRARIES, Latentline, Peer, user_lines

from latentline.core.attributes import CLASS, Attribute
from latentline.core.files import write_sealed_json
from latentline.core.labels import LabelTable, schema_to_json, write_labelled_rows
from latentline.core.paths import PREPARED
from latentline.data.store import read_card, read_split, to_unit_range
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.figures.grids import save_grid
from stages.evaluate.distances import Gaussian, fit_gaussian, frechet_distance

_BATCH, _EPOCHS = 128, 4  # of the classifiers
_TUNED = 100  # images of each guidance scale
_OURS = "latentline"


@dataclass(frozen=True)
class Setting:
    """The first columns of a line of the CSV file."""

    peer: str
    images: str  # beginning of a digest
    minutes: float
    threads: int
    count: int
    seed: int


@dataclass(frozen=True)
class Result:
    """The measured columns."""

    minutes_taken: float  # processor time of the training per thread
    guidance: float
    evaluations: int  # per image
    fd: float
    fd_real_test: float  # of as many test images
    accuracy: float
    accuracy_of_real_test: float
    images_per_second: float
    user_lines: int


@dataclass(frozen=True)
class Images:
    """Images uint8 (N, C, H, W) and their classes (N,)."""

    images: Tensor
    labels: Tensor


class Classifier:
    """Classifier of the training images: the space of the distances, and predicted classes.

    Args:
        train: images.
        seed: of weights and order.
        channels: of the first level; the pipeline's own has 32.
        features: their number; the pipeline's own has 128.
        epochs: passes over the images.
    """

    def __init__(self, train: Images, seed: int, channels: int, features: int, epochs: int) -> None:
        torch.manual_seed(seed)
        classes = int(train.labels.max()) + 1
        self.network = ConvClassifier(train.images.shape[1:], classes, channels, features, dropout=0.25)
        steps = epochs * -(-len(train.labels) // _BATCH)
        optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for _ in range(epochs):
            for rows in torch.randperm(len(train.labels)).split(_BATCH):
                loss = F.cross_entropy(self.network(to_unit_range(train.images[rows])), train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.network.eval().requires_grad_(False)
        self._reference: Gaussian = fit_gaussian(self._features(train.images))

    def scores(self, drawn: Images) -> tuple[float, float]:
        """Return the Frechet distance to the training images, and the share that is classified as its class."""
        features = self._features(drawn.images)
        predicted = self.network.head(features).argmax(dim=1)
        return frechet_distance(features, self._reference), float((predicted == drawn.labels).float().mean())

    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.network.features(to_unit_range(part)) for part in images.split(1000)])


def _measured(
    setting: Setting, peer: Peer, train: Images, test: Images, tuner: Classifier, scorer: Classifier
) -> tuple[Result, Tensor]:
    """Return the result of one contestant, and its images."""
    torch.manual_seed(setting.seed)
    _, taken = timed(lambda: peer.train(train.images, train.labels, 60 * setting.minutes))
    labels = torch.arange(setting.count) % (int(train.labels.max()) + 1)
    few = labels[:_TUNED]
    found = {
        scale: tuner.scores(Images(peer.draw(few, scale), few))[0] for scale in peer.scales if len(peer.scales) > 1
    }
    scale = min(found, key=found.__getitem__) if found else peer.scales[0]
    images, drawing = timed(partial(peer.draw, labels, scale))
    fd, accuracy = scorer.scores(Images(images, labels))
    fd_real, accuracy_real = scorer.scores(Images(test.images[: setting.count], test.labels[: setting.count]))
    result = Result(
        (taken - peer.uncounted) / 60,
        scale,
        peer.evaluations(scale),
        fd,
        fd_real,
        accuracy,
        accuracy_real,
        setting.count / drawing,
        user_lines(type(peer)),
    )
    return result, images


def _read(folder: Path, split: str) -> Images:
    images = read_split(folder, split)
    if images.labels.names != [CLASS]:
        raise SystemExit("benchmarks/peers.py needs images whose only label is a class; choose another data.name")
    return Images(images.images.to_memory(), images.labels.column(CLASS).long())


def write_small(folder: Path) -> None:
    """Write images of noise in two classes of brightness, as stage ``download`` would."""
    schema, splits = (Attribute(CLASS, "categorical", ("dark", "bright")),), {}
    (folder / PREPARED).mkdir(parents=True)
    for split in ("train", "val", "test"):
        labels = (torch.arange(60) % 2).float()[:, None]
        noise = torch.randint(0, 120, (60, 1, 28, 28), generator=torch.Generator().manual_seed(0))
        images = (noise + 120 * labels[..., None, None]).to(torch.uint8)
        rows = [(images, LabelTable(schema, labels))]
        splits[split] = write_labelled_rows(folder / PREPARED, split, "images", rows, {})
    card = {"schema": schema_to_json(schema), "shape": [1, 28, 28], "horizontal_flip": False, "splits": splits}
    write_sealed_json(folder / PREPARED / "card.json", card)


def _table(results: dict[Setting, Result], settings: list[Setting]) -> str:
    head = ["", "minutes", "evaluations", "guidance", "distance", "class accuracy", "images a second", "lines"]
    rows = []
    for setting in settings:
        result = results[setting]
        measured = [f"{result.fd:.2f}", f"{result.accuracy:.3f}", f"{result.images_per_second:.1f}"]
        numbers = [f"{result.minutes_taken:.1f}", str(result.evaluations), f"{result.guidance:g}"]
        rows.append([setting.peer, *numbers, *measured, str(result.user_lines)])
    real = results[settings[0]]
    rows.append(
        ["real test images", "", "", "", f"{real.fd_real_test:.2f}", f"{real.accuracy_of_real_test:.3f}", "", ""]
    )
    return markdown_table(head, rows)


def _arguments(command: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of each training, processor time per thread")
    parser.add_argument("--peers", nargs="+", choices=[_OURS, *LIBRARIES], default=[_OURS, *LIBRARIES])
    parser.add_argument("--count", type=int, default=1000, help="images that are scored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/peers.csv"))
    parser.add_argument("--quick", action="store_true", help="a second of each training, on images of noise")
    return parser.parse_args(command)


def main(command: list[str] | None = None) -> None:
    """Measure what the CSV file does not have yet; print the table and write it beside that file."""
    arguments = _arguments(command)
    torch.set_num_threads(arguments.threads)
    csv = arguments.csv.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.quick:
            write_small(folder)
            arguments.minutes, arguments.count = 1 / 60, min(arguments.count, 20)
        else:
            (folder / PREPARED.parent).mkdir(parents=True)
            (folder / PREPARED).symlink_to(PREPARED.absolute())
        _compare(arguments, folder, csv)


def _compare(arguments: argparse.Namespace, folder: Path, csv: Path) -> None:
    train, test = (_read(folder / PREPARED, split) for split in ("train", "test"))
    epochs = 1 if arguments.quick else _EPOCHS
    changed: dict[str, Any] = {"sample.count": arguments.count}
    if arguments.quick:
        changed |= {"autoencoder.epochs": 1}
    peers: dict[str, Callable[[], Peer]] = {_OURS: partial(Latentline, folder, arguments.threads, changed), **LIBRARIES}
    shards = "".join(sorted(read_card(folder / PREPARED).sha256.values()))
    digest = hashlib.sha256(shards.encode()).hexdigest()[:12]
    settings, done = [], recorded(csv, Setting, Result)
    for name in arguments.peers:
        package = name.removesuffix("_latent")
        if importlib.util.find_spec(package) is None:
            print(f"left out: {name} is not installed")
            continue
        settings.append(Setting(name, digest, arguments.minutes, arguments.threads, arguments.count, arguments.seed))
    if not settings:
        raise SystemExit("--peers must name at least one library that is installed; install one")
    if missing := [setting for setting in settings if setting not in done]:
        tuner, scorer = Classifier(train, 101, 24, 96, epochs), Classifier(train, 202, 48, 192, epochs)
        for setting in missing:
            started = time.monotonic()
            result, images = _measured(setting, peers[setting.peer](), train, test, tuner, scorer)
            record(csv, setting, result)
            save_grid(csv.with_name(f"{csv.stem}_{setting.peer}.png"), images[:100], columns=10, scale=2)
            print(f"{setting.peer}: {time.monotonic() - started:.0f} seconds on the clock, {result}", flush=True)
    table = _table(recorded(csv, Setting, Result), settings)
    csv.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
