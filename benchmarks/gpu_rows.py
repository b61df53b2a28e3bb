"""Measurement of one row of the table of benchmarks/gpu.py, by the stages' own functions on random data."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.files import write_sealed_json
from latentline.core.labels import LabelTable, build_schema, schema_to_json, write_labelled_rows
from latentline.core.load_params import validate
from latentline.core.paths import PREPARED
from latentline.core.seeds import generator
from latentline.data.store import read_card
from latentline.denoisers.build import build_denoiser, graph_modules
from latentline.denoisers.conditioning import build_conditioning
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import draw_latents
from latentline.diffusion.process import build_process
from latentline.feature_extractors.build import build_feature_extractor
from latentline.feature_extractors.features import extract_features
from latentline.feature_extractors.training import train_classifier
from latentline.latents.normalizer import Normalizer
from latentline.runtime.compile import compiled
from latentline.runtime.compute import (
    peak_memory_mib,
    reset_peak_memory,
    set_up,
    synchronize,
    to_device,
)
from latentline.runtime.parallel import Ranks, init_distributed
from latentline.runtime.peak import peak_tflops
from latentline.runtime.precision import Precision, inference
from latentline.runtime.resume import ResumeFile
from latentline.samplers.settings import SamplingSettings
from latentline.tools.params_file import read_recipe
from latentline.training.flops import FlopCounter
from latentline.training.loop import Saving
from latentline.training.progress import Speed
from latentline.training.step_inputs import RowSource
from stages.train_autoencoder.train import TrainingContext, train_autoencoder
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.train import train as train_denoiser
from stages.train_feature_extractor.train import training_of

ROOT = Path(__file__).resolve().parent.parent
DENOISERS = ("unet", "dit", "mlp", "dit_b2")
AUTOENCODERS = ("vae", "vae_discriminator")
TASKS = {
    **dict.fromkeys(DENOISERS, ("train", "sample")),
    "vae": ("train", "encode", "decode"),
    "vae_discriminator": ("train",),
    "feature_extractor": ("train", "extract"),
}
_IMAGE = (1, 28, 28)
_LARGE_BATCH, _LARGE_STEPS = 32, 10
_VALIDATED = 8


@dataclass(frozen=True)
class Effort:
    """How much each row computes, and where."""

    steps: int  # of a turn
    turns: int
    images: int  # of a call that samples, encodes, decodes or extracts
    device: str
    threads: int


@dataclass(frozen=True)
class Row:
    """The first columns of the table."""

    network: str
    task: str
    precision: Precision
    compiled: bool
    devices: int


@dataclass(frozen=True)
class Result:
    """The measured columns; a step is a call of the sampler or of the network where nothing trains."""

    images: int
    ms: float
    tflops: float
    share: float | None
    memory_mib: float | None


@cache
def _params(network: str) -> Any:
    """Return the default recipe, or DiT-B/2's, changed to ``network``."""
    if network == "dit_b2":
        params = validate(read_recipe("imagenet256_dit_b2", ROOT))
        params = _changed(params, "denoiser.optimizer", batch_size=_LARGE_BATCH)
        return _changed(params, "sample", steps=_LARGE_STEPS)
    params = validate(read_recipe("default", ROOT))
    if network == "vae_discriminator":
        return _changed(params, "autoencoder.adversarial", weight=0.1, start_step=0, warmup_steps=0)
    return _changed(params, "denoiser", name=network) if network in DENOISERS else params


def _changed(params: Any, section: str, **values: Any) -> Any:
    """Return a copy of ``params`` in which the section at that dotted path has other values."""
    head, _, rest = section.partition(".")
    inner = getattr(params, head)
    return params.model_copy(
        update={head: _changed(inner, rest, **values) if rest else inner.model_copy(update=values)}
    )


def measure(row: Row, effort: Effort) -> Result:
    """Measure a row in the present folder, which is to be empty; with several devices on each of their processes."""
    device, ranks = init_distributed(set_up(effort.device, effort.threads, False), row.devices, 1)
    torch.manual_seed(0)
    measured = _denoiser if row.network in DENOISERS else _vae if row.network in AUTOENCODERS else _extractor
    return measured(row, effort, device, ranks)


def _denoiser(row: Row, effort: Effort, device: torch.device, ranks: Ranks) -> Result:
    params, classes = _params(row.network), 1000 if row.network == "dit_b2" else 10
    section = params.denoiser
    shape = {"dit_b2": (4, 32, 32), "mlp": (256,)}.get(row.network, (6, 7, 7))
    schema = build_schema(tuple(map(str, range(classes))), ())
    conditioning = build_conditioning("class", schema)
    constructor = {"latent_shape": shape, "cond_dim": conditioning.cond_dim, **section.constructor()}
    network = to_device(build_denoiser(section.name, **constructor), device)
    process = build_process(section.process.path, section.process.prediction)
    denoiser = Denoiser(network, process, conditioning, shape, device)
    once = section.optimizer.accumulate == 1

    def split(count: int) -> Latents:
        labels = LabelTable(schema, (torch.arange(count) % classes)[:, None].float())
        z = torch.randn(count, *shape, generator=generator(0, "latents"))
        return Latents(
            RowSource(z.to(device)), labels, conditioning, Normalizer.constant(1.0, shape).to(device), device
        )

    if row.task == "sample":
        labels, indices = split(_images(row, effort)).labels, torch.arange(_images(row, effort))
        config = SamplingSettings.of(params.sample).config(denoiser, "sample.")
        network.eval().requires_grad_(False)
        with compiled(row.compiled, device, graph_modules(network)):
            return _called(row, effort, device, lambda: draw_latents(denoiser, config, 0, "gpu", indices, labels))

    size = section.optimizer.batch_size * row.devices
    settings = section.model_copy(update={"epochs": 1, "optimizer": _optimizer(section, row)})
    splits = {"train": split(size * effort.steps), "val": split(_VALIDATED)}
    with compiled(row.compiled, device, graph_modules(network), walks_graph_once=once):
        return _trained(
            size,
            effort,
            ranks,
            lambda saving: train_denoiser(denoiser, settings, splits, 0, saving, ranks, lambda model, epoch: None),
        )


def _vae(row: Row, effort: Effort, device: torch.device, ranks: Ranks) -> Result:
    params = _params(row.network)
    section = params.autoencoder
    network = to_device(build_autoencoder(section.name, **section.constructor(), image_shape=list(_IMAGE)), device)
    if row.task != "train":
        network.eval().requires_grad_(False)
        trained = TrainedAutoencoder(network, device, "", _IMAGE, row.precision)
        images, raw = _random_images(_images(row, effort)), torch.randn(_images(row, effort), *network.latent_shape)
        calls: dict[str, Callable[[], object]] = {
            "encode": lambda: trained.encode(images),
            "decode": lambda: trained.decode(raw),
        }
        with compiled(row.compiled, device, list(network.children())):
            return _called(row, effort, device, calls[row.task])

    size = section.optimizer.batch_size * row.devices
    if ranks.is_main:
        _write_images({"train": size * effort.steps, "val": _VALIDATED})
    ranks.barrier()
    settings = section.model_copy(update={"optimizer": _optimizer(section, row)})
    compute = params.compute.model_copy(update={"compile": row.compiled})
    context = TrainingContext(settings, read_card(PREPARED), {}, device, 0, compute, ranks)
    return _trained(size, effort, ranks, lambda saving: train_autoencoder(network, context, saving, 1))


def _extractor(row: Row, effort: Effort, device: torch.device, ranks: Ranks) -> Result:
    section = _params(row.network).feature_extractor
    sizes = section.model_dump(include={"channels", "features", "dropout"})
    network = to_device(build_feature_extractor("classifier", outputs=10, shape=list(_IMAGE), **sizes), device)
    if row.task == "extract":
        images = _random_images(_images(row, effort))
        return _called(row, effort, device, lambda: extract_features(network, images, device))

    size = section.optimizer.batch_size
    training = training_of(section.model_copy(update={"epochs": 1, "optimizer": _optimizer(section, row)}))
    images, labels = _random_images(size * effort.steps).to(device), (torch.arange(size * effort.steps) % 10)[:, None]
    schema = build_schema(tuple(map(str, range(10))), ())

    def train(saving: Saving) -> object:
        return train_classifier(
            network,
            schema,
            images,
            labels.float(),
            training,
            device=device,
            seed=0,
            name="gpu",
            saving=saving,
            ranks=ranks,
        )

    with compiled(row.compiled, device, [network]):
        return _trained(size, effort, ranks, train)


def _optimizer(section: Any, row: Row) -> Any:
    return section.optimizer.model_copy(update={"precision": row.precision})


def _images(row: Row, effort: Effort) -> int:
    return min(effort.images, _LARGE_BATCH) if row.network == "dit_b2" else effort.images


def _random_images(count: int) -> Tensor:
    return torch.randint(256, (count, *_IMAGE), dtype=torch.uint8, generator=generator(0, "images"))


def _write_images(counts: dict[str, int]) -> None:
    """Write data/prepared with random images and no labels."""
    PREPARED.mkdir(parents=True)
    splits = {}
    for name, count in counts.items():
        rows = [(_random_images(count), LabelTable((), torch.empty(count, 0)))]
        splits[name] = write_labelled_rows(PREPARED, name, "images", rows, {})
    card = {"schema": schema_to_json(()), "shape": list(_IMAGE), "horizontal_flip": False, "splits": splits}
    write_sealed_json(PREPARED / "card.json", card)


def _trained(size: int, effort: Effort, ranks: Ranks, train: Callable[[Saving], object]) -> Result:
    """Train once for each turn; the loop itself measures."""
    speeds: list[Speed] = []
    for turn in range(1 + effort.turns):
        file = ResumeFile("gpu", {"turn": turn}, ())
        train(Saving(file, float("inf"), on_speed=speeds.append))
        if ranks.is_main:
            file.finish()
    ranks.exit_non_main()
    speeds = sorted(speeds[1:], key=lambda speed: speed["images_per_second"] or 0.0)
    middle = speeds[len(speeds) // 2]
    ms = 1e3 * size / (middle["images_per_second"] or 1.0)
    memory = middle["peak_device_memory_mib"]
    return Result(size, ms, middle["tflop_per_second"] or 0.0, middle["share_of_peak"], memory)


def _called(row: Row, effort: Effort, device: torch.device, call: Callable[[], object]) -> Result:
    """Call once to count the FLOPs, once to warm up, and once for each turn."""
    with inference(device, row.precision, "--precisions"):
        with torch.compiler.set_stance("force_eager"), FlopCounter() as counter:
            call()
        reset_peak_memory(device)
        call()
        seconds = []
        for _ in range(effort.turns):
            synchronize()
            started = time.perf_counter()
            call()
            synchronize()
            seconds.append(time.perf_counter() - started)
    median, peak = statistics.median(seconds), peak_tflops(device, row.precision)
    tflops = counter.total / median / 1e12
    share = tflops / peak if peak else None
    return Result(_images(row, effort), 1e3 * median, tflops, share, peak_memory_mib(device))
