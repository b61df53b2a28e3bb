"""``make export-onnx``: onnxruntime draws the images that the run itself draws, with nothing of ours but numbers."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.autoencoders.load import noise_for_index
from latentline.core.attributes import encode_attributes
from latentline.core.errors import UserError
from latentline.core.labels import schema_to_json
from latentline.core.seeds import start_noise
from latentline.diffusion.process import DenoiserModel, build_process
from latentline.diffusion.time_grid import time_grid
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.samplers.registry import SamplerOptions, build_sampler
from latentline.tools import onnx_run
from latentline.tools.export_onnx import export_onnx, load_run, pipeline_json
from latentline.tools.onnx_sampler import sampler_table
from stages.sample.draw import ImageSampler, load_image_sampler
from stages.sample.params import SampleParams
from support.exported_run import ALL, GAUSSIAN, VELOCITY, V, write_moments, write_run
from support.small_networks import IMAGE
from support.untrained_run import SCHEMA

SEED = 0
COUNT = 5


def _exported(folder: Path, write_params: Any, **settings: object) -> tuple[ImageSampler, onnx_run.Pipeline]:
    """Export the run in the current folder to ``folder``; return what samples here and what samples there."""
    write_params(Path(), {f"sample.{name}": value for name, value in settings.items()})
    export_onnx(folder, load_run())
    sampler = load_image_sampler(SampleParams(count=COUNT, **settings), SEED, torch.device("cpu"))
    return sampler, onnx_run.Pipeline(folder)


@pytest.mark.parametrize(
    ("denoiser", "autoencoder", "settings"),
    [
        ("unet", "vae", {}),
        ("dit", "ae", {"sampler": "heun", "guidance_rescale": 0.7}),
        ("mlp", "diffae", {"sampler": "dpmpp_2m"}),  # unconditional
    ],
)
def test_onnxruntime_draws_the_same_images(denoiser, autoencoder, settings, tmp_path, monkeypatch, write_params):
    monkeypatch.chdir(tmp_path)
    changes = {"denoiser": {"gaussian": GAUSSIAN}} if denoiser == "unet" else {}
    process, condition = VELOCITY if denoiser == "unet" else V, () if denoiser == "mlp" else ALL
    write_run(denoiser, autoencoder, process, condition, changes=changes)
    maps = None if denoiser == "dit" else write_moments(classes=3 if condition else 0, **settings)
    sampler, pipeline = _exported(tmp_path / "exported", write_params, **settings)
    sampler, indices = replace(sampler, moments=maps), torch.arange(COUNT)
    noise = start_noise(SEED, "sample", indices, sampler.denoiser.latent_shape).numpy()
    condition = sampler.denoiser.conditioning.encode(sampler.labels).vector.numpy()  # (5, 6) or (5, 0)
    z0 = sampler.latents(indices).numpy()
    np.testing.assert_allclose(pipeline.latents(noise, condition), z0, rtol=1e-4, atol=1e-4 * np.abs(z0).max())
    shape = sampler.autoencoder.network.noise_shape
    decoder_noise = None if shape is None else noise_for_index(shape, indices).numpy()
    drawn = onnx_run.to_uint8(pipeline.images(noise, condition, decoder_noise)).astype(int)
    assert np.abs(drawn - sampler.images(indices).numpy()).max() <= 1  # level of 256
    assert drawn.std() > 1
    own = onnx_run.start_noise(SEED, pipeline.numbers["noise"]["name"], COUNT, noise.shape[1:])
    np.testing.assert_allclose(own, noise, atol=1e-6)
    if decoder_noise is not None:
        own = onnx_run.start_noise(**_named(pipeline.numbers["diffusion_decoder"]["noise"]), count=COUNT, shape=shape)
        np.testing.assert_allclose(own, decoder_noise, atol=1e-6)
    if denoiser == "unet":
        _check_encoder(tmp_path / "exported", sampler)
        _check_program(tmp_path / "exported", noise, sampler)


def _named(noise: dict[str, Any]) -> dict[str, Any]:
    return {name: noise[name] for name in ("seed", "name")}


def _check_encoder(folder: Path, sampler: ImageSampler) -> None:
    import onnxruntime

    x = torch.rand(3, *IMAGE) * 2 - 1
    (raw,) = onnxruntime.InferenceSession(folder / "encoder.onnx").run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(raw), sampler.autoencoder.network.encode(x), rtol=1e-4, atol=1e-4)


def _check_program(folder: Path, noise: np.ndarray, sampler: ImageSampler) -> None:
    """Run the copied program by itself: without our packages on its path."""
    np.save(folder / "noise.npy", noise)
    command = [sys.executable, "-I", "run.py", "--label", "bag", "--attribute", "wide=1", "--attribute", "level=12"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)

    assert run("--noise", "noise.npy", "--out", "images.npy").returncode == 0
    images = np.load(folder / "images.npy")
    pipeline = onnx_run.Pipeline(folder)
    condition = encode_attributes(SCHEMA, torch.tensor([[1.0, 1.0, 12.0]]).expand(COUNT, -1)).numpy()
    np.testing.assert_array_equal(images, onnx_run.to_uint8(pipeline.images(noise, condition)))
    assert run("--count", str(COUNT), "--out", "own.npy").returncode == 0  # its own noise, of the run's seed
    np.testing.assert_allclose(np.load(folder / "own.npy").astype(int), images, atol=1)
    refused = run("--label", "hat")
    assert refused.stderr == "error: label (hat) must be one of boot, bag, 7, or an index; correct it\n"


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "unipc", "ddim"])
@pytest.mark.parametrize("path", ["flow", "vp_linear", "vp_cosine"])
def test_the_table_follows_the_sampler(name, path):
    process = build_process(path, "v")
    sampler = build_sampler(name, SamplerOptions(), lambda step: torch.empty(0))

    def output(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * z_t + t[:, None]) - z_t

    noise, times = torch.randn(3, 4, dtype=torch.float64), time_grid(6)
    terms = [noise]
    table = sampler_table(sampler, process, times)
    for evaluation in table["evaluations"]:
        z = sum(weight * term for weight, term in zip(evaluation["state"], terms, strict=True))
        terms.append(output(z, torch.full((3,), evaluation["t"], dtype=torch.float64)))
    z0 = sum(weight * term for weight, term in zip(table["result"], terms, strict=True))
    torch.testing.assert_close(z0, sampler(DenoiserModel(process, output), noise, times))


def test_conditions_by_name_are_ours():
    attributes = json.loads(json.dumps(schema_to_json(SCHEMA)))
    nan = float("nan")
    for values, row in (
        ({"label": "bag"}, [1.0, nan, nan]),
        ({"label": "7", "wide": "0"}, [2, 0, nan]),
        ({"label": "0", "level": "12.5"}, [0, nan, 12.5]),
    ):
        ours = encode_attributes(SCHEMA, torch.tensor([row])).numpy()
        np.testing.assert_allclose(onnx_run.condition_vectors(attributes, values, 1), ours)
    in_turn = onnx_run.condition_vectors(attributes, {}, 4)
    np.testing.assert_array_equal(in_turn[:, :3], np.eye(3)[[0, 1, 2, 0]])
    assert not in_turn[:, 3:].any()
    with pytest.raises(ValueError, match="long must be one of the attributes"):
        onnx_run.condition_vectors(attributes, {"long": "1"}, 1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_grids_are_png(tmp_path, channels, mode):
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 4, 5), np.uint8)
    onnx_run.write_png(tmp_path / "grid.png", images)
    with Image.open(tmp_path / "grid.png") as image:
        assert (image.size, image.mode) == ((10, 8), mode)
        pixels = np.asarray(image).reshape(8, 10, channels)
    np.testing.assert_array_equal(pixels[4:, :5], images[2].transpose(1, 2, 0))
    assert not pixels[4:, 5:].any()


@pytest.mark.parametrize("shape", [(1,), (2,), (15,), (16,), (17,), (6, 7, 7)])
def test_noise_is_that_of_torch(shape):
    """Hold torch to what run.py and pipeline.js repeat; lengths below 16 and rests of 16 have ways of their own."""
    ours = start_noise(7, "sample", torch.arange(3), shape).numpy()
    np.testing.assert_allclose(onnx_run.start_noise(7, "sample", 3, shape), ours, atol=1e-6)


def test_the_program_imports_numpy_and_onnxruntime_alone():
    tree = ast.parse(Path(str(onnx_run.__file__)).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "ddpm"}, r"sample\.sampler \(ddpm\) must be one of euler, heun, dpmpp_2m, unipc, ddim"),
        ({"sampler": "ddim", "eta": 0.5}, r"sample\.sampler \(ddim\) must be one of euler, heun, dpmpp_2m, unipc for"),
        ({"sampler": "flow_sde"}, r"sample\.sampler \(flow_sde\)"),
        ({"sampler": "flow_map"}, r"without average velocities"),
    ],
)
def test_samplers_with_noise_are_refused(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run("mlp", "ae of vectors", VELOCITY)
    sampler = load_image_sampler(SampleParams(count=1), SEED, torch.device("cpu"))
    with pytest.raises(UserError, match=message):
        pipeline_json(sampler.autoencoder, sampler.stats, sampler.denoiser, SampleParams(**settings), SEED)


def test_a_captioned_denoiser_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run("mlp", "ae of vectors", VELOCITY)
    sampler = load_image_sampler(SampleParams(count=1), SEED, torch.device("cpu"))
    tokenizer = CaptionTokenizer.__new__(CaptionTokenizer)  # never asked for anything
    captioned = replace(sampler.denoiser, conditioning=replace(sampler.denoiser.conditioning, tokenizer=tokenizer))
    with pytest.raises(UserError, match=r"denoiser\.condition \(captions\) must be class or none"):
        pipeline_json(sampler.autoencoder, sampler.stats, captioned, SampleParams(), SEED)
