"""Write a finished run as ONNX networks with a program that draws images: ``make export-onnx DIR=...``.

encoder.onnx decoder.onnx denoiser.onnx    the networks, in float32
moments.onnx                               the moment maps of stage ``sample``, where it has measured any
pipeline.json                              all other numbers: normaliser, labels, sampler, guidance
run.py                                     draws images with numpy and onnxruntime alone
"""

import importlib.util
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.core.errors import UserError
from latentline.core.files import replaced_file, write_json
from latentline.core.labels import schema_to_json
from latentline.core.load_params import read_params, validate
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.denoisers.moment_matching import MomentMaps
from latentline.diffusion.euler import euler
from latentline.diffusion.process import Process
from latentline.diffusion.time_grid import time_grid
from latentline.latents.cache import LatentStats, read_stats
from latentline.samplers.moment_file import maps_to_export
from latentline.samplers.registry import SAMPLERS, build_sampler, is_stochastic
from latentline.samplers.settings import SamplingSettings
from latentline.tools.onnx_networks import OPSET, export_autoencoder, export_denoiser, export_moments
from latentline.tools.onnx_sampler import sampler_table

_ABOUT_MOMENTS = (
    "moments.onnx maps z0, under the same condition, to latents with the mean and the covariance of the training "
    "latents; it holds for the sampler, the steps and the guidance of this file"
)
_PROGRAM = Path(__file__).with_name("onnx_run.py")


@dataclass(frozen=True)
class ExportableRun:
    """A finished run, and the content of its pipeline.json."""

    params: Any
    """All of params.yaml."""
    autoencoder: TrainedAutoencoder
    stats: LatentStats
    denoiser: Denoiser
    maps: MomentMaps | None
    """Of samples that are drawn as section ``sample`` says."""
    pipeline: dict[str, Any]


def load_run() -> ExportableRun:
    """Load the run in the current folder, with section ``sample`` of params.yaml.

    Raises:
        UserError: a package or a checkpoint is missing, the denoiser is conditioned on captions, or the sampler adds
            noise or needs average velocities.
    """
    params = validate(read_params())
    if importlib.util.find_spec("onnx") is None:
        raise UserError(
            "make export-onnx and make export-web need the package onnx; run `.venv/bin/pip install -e '.[onnx]'`"
        )
    device = torch.device("cpu")
    autoencoder, stats = load_autoencoder(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    denoiser = load_denoiser(device, stats)
    pipeline = pipeline_json(autoencoder, stats, denoiser, params.sample, params.seed)
    maps = maps_to_export(SamplingSettings.of(params.sample), params.sample.moment_samples)
    pipeline["moments"] = None if maps is None else {"about": _ABOUT_MOMENTS}
    return ExportableRun(params, autoencoder, stats, denoiser, maps, pipeline)


def export_onnx(folder: Path, run: ExportableRun) -> None:
    """Write the networks, pipeline.json and run.py to ``folder``."""
    autoencoder, denoiser = run.autoencoder, run.denoiser
    export_autoencoder(folder, autoencoder.network, autoencoder.image_shape)
    networks = {"denoiser": denoiser.network}
    if run.pipeline["guidance"]["network"] == "guide" and denoiser.guide is not None:
        networks["guide"] = denoiser.guide
    for name, network in networks.items():
        export_denoiser(folder / f"{name}.onnx", network, denoiser.latent_shape, denoiser.conditioning.cond_dim)
    if run.maps is not None:
        export_moments(folder / "moments.onnx", run.maps, denoiser.conditioning.cond_dim)
    write_json(folder / "pipeline.json", run.pipeline)
    with replaced_file(folder / "run.py") as temporary:
        shutil.copyfile(_PROGRAM, temporary)


def pipeline_json(
    autoencoder: TrainedAutoencoder, stats: LatentStats, denoiser: Denoiser, settings: Any, seed: int
) -> dict[str, Any]:
    """Return the content of pipeline.json; ``settings`` are section ``sample``, ``seed`` is the run's.

    Raises:
        UserError: the denoiser or its sampler cannot be exported.
    """
    process, conditioning = denoiser.process, denoiser.conditioning
    if conditioning.tokenizer is not None:
        raise UserError(
            "denoiser.condition (captions) must be class or none for an export, which has no text encoder; "
            "train with one of them"
        )
    sampling = SamplingSettings.of(settings)
    guidance = sampling.config(denoiser, "sample.").guidance
    if settings.sampler == "flow_map" or is_stochastic(settings.sampler, sampling.options):
        plain = ", ".join(name for name in SAMPLERS if name != "flow_map" and not is_stochastic(name, sampling.options))
        raise UserError(
            f"sample.sampler ({settings.sampler}) must be one of {plain} for an export, whose sampler is a table "
            "without noise of its own or average velocities; set it to unipc"
        )
    table = table_of_steps(settings, process, settings.steps)
    for evaluation in table["evaluations"]:
        evaluation["guided"] = guidance.scale != 1 and guidance.covers(evaluation["t"])
    return {
        "format": 1,
        "opset": OPSET,
        "precision": "float32",
        "image_shape": list(autoencoder.image_shape),
        "latent_shape": list(denoiser.latent_shape),
        "diffusion_decoder": _diffusion_decoder(autoencoder.network),
        "latents": {
            "about": "the decoder takes z0 * std + mean, per channel; z0 = (latents of the encoder - mean) / std",
            **_moments(stats.normalizer.mean, stats.normalizer.std),
        },
        "condition": {
            "about": "joined parts of all attributes: categorical = one-hot; binary = -1 or 1; continuous = 1, "
            "(value - mean) / std; zeros where a value is unknown; all zeros = the null condition",
            "length": conditioning.cond_dim,
            "attributes": schema_to_json(conditioning.attributes),
        },
        "process": {"path": process.path.name, "prediction": process.prediction},
        "sampler": {
            "about": "evaluation k: z = the sum of state[j] * x[j], with x[0] = noise and x[j] = the output of "
            "evaluation j - 1; z0 = the sum of result[j] * x[j]",
            "name": settings.sampler,
            **table,
        },
        "noise": {
            "about": "image i begins with torch.randn, seeded by the sha256 of 'seed/name/i'; run.py repeats it",
            "seed": seed,
            "name": "sample",
        },
        "guidance": {
            "about": "output where guided: uncond + scale * (cond - uncond), then rescaled (arXiv 2305.08891, eq. 15); "
            "uncond is the output of this network for the null condition",
            "network": "denoiser" if denoiser.guide_for(guidance) is None else "guide",
            "scale": guidance.scale,
            "start": guidance.start,
            "end": guidance.end,
            "rescale": guidance.rescale,
        },
    }


def table_of_steps(settings: Any, process: Process, steps: int) -> dict[str, Any]:
    """Return ``times`` and :func:`sampler_table` of the sampler in section ``sample``, with another number of steps.

    Raises:
        UserError: the time grid has fewer steps.
    """
    sampling = replace(SamplingSettings.of(settings), steps=steps)
    times = sampling.times(process.path)
    sampler = build_sampler(sampling.sampler, sampling.options, lambda step: torch.empty(0))
    return {"times": times.tolist(), **sampler_table(sampler, process, times)}


def _diffusion_decoder(network: Autoencoder) -> dict[str, Any] | None:
    """Return what decodes the latents of a diffusion autoencoder to those of its inner one; None for any other."""
    if not isinstance(network, DiffAE):
        return None
    return {
        "about": "decoder.onnx takes z0 * std + mean; diffusion_decoder.onnx takes the raw latents as its condition",
        "noise_shape": list(network.noise_shape),
        "noise": {"about": "that of image i, as of the latents", "seed": 0, "name": "decode"},
        **_moments(network.get_buffer("mean"), network.get_buffer("std")),
        **sampler_table(euler, network.process, time_grid(network.sample_timesteps)),
    }


def _moments(mean: Tensor, std: Tensor) -> dict[str, list[float]]:
    return {"mean": mean.flatten().tolist(), "std": std.flatten().tolist()}


def main() -> None:
    """Command line: one folder."""
    try:
        export_onnx(Path(sys.argv[1]), load_run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
