"""Every benchmark runs, with little work; none of its numbers is checked."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from latentline.core.load_params import validate
from latentline.data.store import read_card
from latentline.runtime.parallel import SINGLE_PROCESS
from latentline.tools.params_file import read_recipe
from support.stage_runs import DIGITS

pytestmark = pytest.mark.usefixtures("machine")

NAMES = [path.stem for path in sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))]
_HELP = ("adversarial", "autoencoders", "gpu", "larger_than_memory", "peers", "samplers")
STARTS = {  # the two that import stages within functions do a little work
    **{name: ["--help"] for name in _HELP},
    "data_store": ["--count", "60", "--workers", "0"],
    "ranks": ["--setting", "denoiser", "1", "1"],
}
CPU = torch.device("cpu")


@pytest.fixture
def benchmark(root, monkeypatch):
    """Return a function that imports a benchmark by its name."""
    monkeypatch.syspath_prepend(root / "benchmarks")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_imports_names_that_exist(benchmark, name):
    assert benchmark(name).__doc__


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), STARTS.items())
def test_a_benchmark_starts_as_a_script(root, workplace, monkeypatch, name, arguments):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, root / "benchmarks" / f"{name}.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_autoencoder_trains_in_a_benchmark(benchmark, workplace, root):
    params = validate(read_recipe("default", root)).autoencoder
    images = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8)
    network = benchmark("common").train_autoencoder(images, params, CPU, 0, "test", steps=2)
    assert not network.training
    assert not list(workplace.rglob("*.safetensors"))


def test_denoisers_take_steps(benchmark):
    module = benchmark("denoisers")
    for name, shape, params in (module.NETWORKS[0], module.NETWORKS[3], module.NETWORKS[6]):
        assert module.Training(name, shape, params).seconds(1) > 0


def test_ranks_compute_losses(benchmark, root):
    params = validate(read_recipe("default", root))
    for build in benchmark("ranks").NETWORKS.values():
        _, loss = build(params, SINGLE_PROCESS)
        ((weight, value, _),) = loss(0)
        assert weight == 1
        assert value.isfinite()


def test_latents_larger_than_memory_are_gathered_and_trained_on(benchmark, workplace, monkeypatch):
    module = benchmark("larger_than_memory")
    monkeypatch.setattr(module, "_STEPS", 1)
    monkeypatch.setattr(module, "_ROUNDS", 1)
    monkeypatch.setattr(module, "_GATHERED", (4,))
    module.write(workplace, 600)
    found = module.compare(workplace, batch=8, threads=1)
    assert found.keys() == {"gathering", "training", "ratio"}
    assert json.dumps(found)


def test_a_store_is_prepared_and_read(benchmark, workplace):
    module = benchmark("data_store")
    module.write_images(workplace / "images", 60)
    found = {part: work(workplace, 0) for part, work in module.PARTS.items()}
    train = read_card(workplace / "prepared").counts["train"]
    assert found == {"prepare": 60, "read in order": train, "read shuffled": train, "torchvision shuffled": 60}


@pytest.mark.parametrize(
    ("network", "task"), [("mlp", "train"), ("mlp", "sample"), ("vae", "train"), ("vae", "decode")]
)
def test_a_row_of_the_table_of_devices_is_measured(benchmark, network, task):
    module = benchmark("gpu")
    row = module.Row(network, task, "bf16", compiled=False, devices=1)
    result = module.measured(row, module.Effort(steps=2, turns=1, images=3, device="cpu", threads=1))
    assert result.ms > 0
    assert 0 < result.tflops < 100
    assert (result.share, result.memory_mib) == (None, None)


def test_the_table_of_devices_has_a_line_for_each_row(benchmark, workplace, capfd):
    chosen = [
        "--networks",
        "vae",
        "feature_extractor",
        "--tasks",
        "encode",
        "extract",
        "--precisions",
        "float32",
        "bf16",
    ]
    benchmark("gpu").main([*chosen, "--device", "cpu", "--images", "2", "--turns", "1", "--out", "table.md"])
    text = Path("table.md").read_text()
    assert f"torch {torch.__version__}" in text
    lines = [line.split(" | ")[:3] for line in text.splitlines() if " | no | 1 | 2 | " in line]
    assert lines == [
        ["| vae", "encode", "float32"],
        ["| vae", "encode", "bf16"],
        ["| feature_extractor", "extract", "float32"],
    ]


def test_a_gpu_with_little_memory_leaves_out_the_large_network(benchmark, monkeypatch):
    module = benchmark("gpu")
    monkeypatch.setattr(module, "device_count", lambda device: 2)
    arguments, gpu = module._arguments(["--compiled", "both"]), torch.device("cuda")
    found = {}
    for gibibytes in (8, 80):
        monkeypatch.setattr(module, "memory_bytes", lambda device, size=gibibytes << 30: size)
        found[gibibytes] = module.rows(arguments, gpu)
    assert {row.network for row in found[80]} - {row.network for row in found[8]} == {"dit_b2"}
    assert {row.precision for row in found[8]} == {"float32", "tf32", "bf16", "fp16"}
    assert {(row.devices, row.task) for row in found[8]} >= {(1, "sample"), (1, "train"), (2, "train")}
    assert not [row for row in found[8] if row.devices == 2 and row.task != "train"]


@pytest.mark.slow
def test_a_library_is_compared(benchmark, workplace, monkeypatch):
    module = benchmark("peers")
    monkeypatch.setattr(module.LIBRARIES["diffusers_latent"], "_steps", 2)
    monkeypatch.setattr(module.LIBRARIES["diffusers_latent"], "scales", (1.0, 2.0))
    module.main(["--quick", "--peers", "diffusers_latent", "--count", "4", "--csv", "peers.csv"])
    *_, measured, real = Path("peers.md").read_text().splitlines()
    assert measured.startswith("| diffusers_latent | ")
    assert real.startswith("| real test images |")
    assert Path("peers_diffusers_latent.png").stat().st_size > 0
    lines = Path("peers.csv").read_text()
    module.main(["--quick", "--peers", "diffusers_latent", "--count", "4", "--csv", "peers.csv"])
    assert Path("peers.csv").read_text() == lines  # not measured again


def test_this_project_is_compared(benchmark, workplace, write_params):
    steps = {"sample.sampler": "euler", "sample.steps": 2, "sample.guidance_start": 0.0, "sample.guidance_end": 1.0}
    moments = {"sample.moment_samples": 200, "sample.batch_size": 100, "denoiser.gaussian_rank": 1}
    others = {"sample.guidance_scale": 2.0, "manipulate.target_names": ["dark", "bright"]}
    write_params(workplace, DIGITS | steps | moments | others)
    benchmark("peers").main(["--quick", "--peers", "latentline", "--count", "4", "--csv", "peers.csv"])
    *_, measured, real = Path("peers.md").read_text().splitlines()
    name, _, evaluations, guidance, *_ = measured.strip("| ").split(" | ")
    assert (name, evaluations, guidance) == ("latentline", "4", "2")  # two steps, each guided
    assert real.startswith("| real test images | ")
    assert Path("peers_latentline.png").stat().st_size > 0
