"""Write a finished run as a pipeline of diffusers: ``make export-diffusers DIR=...``.

model_index.json pipeline.py    the pipeline: its settings and its code
vae/                            the autoencoder: an ``AutoencoderKL`` where diffusers has it, else with its code
denoiser/ guide/                the denoiser, and its early copy where guidance uses it, with their code
moments/                        the moment maps of stage ``sample``, where it has measured any, with their code
tokenizer/ text_encoder/        of captions, where the denoiser is conditioned on them
config.json diffusion_pytorch_model.safetensors    an ``AutoencoderKL`` again, for ``AutoencoderKL.from_pretrained``
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.core.files import replaced_file, write_json
from latentline.core.labels import schema_to_json
from latentline.core.load_params import read_params, validate
from latentline.core.paths import AUTOENCODER, DENOISER
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.load import Denoiser, load_denoiser, of_guide, without_guide
from latentline.interop.diffusers_folder import write_diffusers_folder
from latentline.interop.diffusers_interop import diffusers_config, to_diffusers
from latentline.latents.cache import LatentStats, read_stats
from latentline.latents.pretrained_text import EncoderInfo, PretrainedTextEncoder
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from latentline.samplers.moment_file import maps_to_export
from latentline.samplers.settings import SamplingSettings
from latentline.tools.single_file import single_file

_TEXT_MODELS = {"clip": "CLIPTextModel", "t5": "T5EncoderModel"}
_TEXT_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
_ABSENT = (None, None)


def export_diffusers(folder: Path) -> None:
    """Write ``folder`` from the run in the current folder, with section ``sample`` of params.yaml.

    Without a denoiser it is the folder of an ``AutoencoderKL`` alone.

    Raises:
        UserError: a checkpoint is missing or belongs to another run, the sampler does not serve the denoiser, or
            there is no denoiser and diffusers does not have the autoencoder.
    """
    checkpoint = load_checkpoint(AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    stats = read_stats()
    stats.require_autoencoder(checkpoint.sha256)
    autoencoder = load_autoencoder(torch.device("cpu"))
    if not DENOISER.exists():
        write_diffusers_folder(folder, *_autoencoder_kl(checkpoint, autoencoder, stats))
        return
    denoiser = load_denoiser(torch.device("cpu"), stats)
    trained = load_checkpoint(DENOISER, kind="denoiser", made_by="train_denoiser")
    params = validate(read_params())
    settings = _settings(params, autoencoder, denoiser, trained)
    maps = maps_to_export(SamplingSettings(**settings["sampling"]), params.sample.moment_samples)
    conditioning = denoiser.conditioning
    encoder = None if conditioning.states is None else conditioning.states.info
    text_encoder = None if encoder is None else _text_encoder(encoder)  # refuses before anything is written
    components = {
        "vae": _write_vae(folder, checkpoint, autoencoder, stats),
        "denoiser": _write_denoiser(folder / "denoiser", without_guide(trained)),
        "guide": _ABSENT,
        "tokenizer": _write_tokenizer(folder / "tokenizer", conditioning),
        "text_encoder": _ABSENT,
        "moments": _ABSENT,
    }
    if params.sample.guide == "early" and (guide := of_guide(trained)) is not None:
        components["guide"] = _write_denoiser(folder / "guide", guide)
    if maps is not None:
        moments = maps.constructor, maps.state_dict()
        components["moments"] = _write_network(folder / "moments", "LatentlineMoments", *moments)
    if encoder is not None and text_encoder is not None:
        _copy(text_encoder, folder / "text_encoder")
        components["text_encoder"] = ("transformers", _TEXT_MODELS[encoder.kind])
    _write_code(folder / "pipeline.py", "LatentlinePipeline")
    pipeline = {"_class_name": ("pipeline", "LatentlinePipeline"), **components, "settings": settings}
    write_json(folder / "model_index.json", pipeline)


def _settings(
    params: Any, autoencoder: TrainedAutoencoder, denoiser: Denoiser, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Return all that the pipeline needs besides its networks; ``params`` are all of params.yaml.

    Raises:
        UserError: the settings do not fit the denoiser.
    """
    sampling = SamplingSettings.of(params.sample)
    sampling.config(denoiser, "sample.")  # refuses
    noise_shape = autoencoder.network.noise_shape
    return {
        "image_shape": list(autoencoder.image_shape),
        "latent_shape": list(denoiser.latent_shape),
        "decoder_noise_shape": None if noise_shape is None else list(noise_shape),
        "process": checkpoint.settings["process"],
        "attributes": schema_to_json(denoiser.conditioning.attributes),
        "sampling": asdict(sampling.with_learnt_guidance(denoiser.process)),
        "seed": params.seed,
    }


def _moments(stats: LatentStats) -> dict[str, list[float]]:
    mean, std = stats.normalizer.mean, stats.normalizer.std
    return {"latents_mean": mean.flatten().tolist(), "latents_std": std.flatten().tolist()}


def _autoencoder_kl(
    checkpoint: Checkpoint, autoencoder: TrainedAutoencoder, stats: LatentStats
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and weights of the autoencoder as an ``AutoencoderKL``.

    Raises:
        UserError: diffusers has no such network.
    """
    if checkpoint.name != "vae":
        raise UserError(
            f"autoencoder.name ({checkpoint.name}) must be vae for an export without a denoiser, since diffusers' "
            "AutoencoderKL has no other; change it, or train the denoiser"
        )
    config = diffusers_config(checkpoint.constructor)
    sample_size = max(checkpoint.constructor["image_shape"][1:])
    weights = to_diffusers(cast(VAE, autoencoder.network), checkpoint.constructor)
    return {**config, "scaling_factor": 1.0, **_moments(stats), "sample_size": sample_size}, weights


def _write_vae(
    folder: Path, checkpoint: Checkpoint, autoencoder: TrainedAutoencoder, stats: LatentStats
) -> tuple[str, str]:
    """Write the autoencoder and return its entry in model_index.json."""
    try:
        config, weights = _autoencoder_kl(checkpoint, autoencoder, stats)
    except UserError:  # diffusers does not have it
        config = {"name": checkpoint.name, "constructor": checkpoint.constructor, **_moments(stats)}
        return _write_network(folder / "vae", "LatentlineAutoencoder", config, checkpoint.tensors)
    for place in (folder, folder / "vae"):
        write_diffusers_folder(place, config, weights)
    return "diffusers", "AutoencoderKL"


def _write_denoiser(folder: Path, checkpoint: Checkpoint) -> tuple[str, str]:
    config = {"name": checkpoint.name, "constructor": checkpoint.constructor}
    return _write_network(folder, "LatentlineDenoiser", config, checkpoint.tensors)


def _write_network(
    folder: Path, class_name: str, config: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[str, str]:
    """Write one of our networks with its code and return its entry in model_index.json."""
    tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
    write_diffusers_folder(folder, {"_class_name": class_name, **config}, tensors)
    return _write_component_code(folder, class_name)


def _write_tokenizer(folder: Path, conditioning: Conditioning) -> tuple[str | None, str | None]:
    tokenizer: CaptionTokenizer | None = conditioning.tokenizer
    if tokenizer is None:
        return _ABSENT
    with replaced_file(folder / "tokenizer.json") as temporary:
        temporary.write_text(tokenizer.json, encoding="utf-8", newline="\n")
    write_json(folder / "tokenizer_config.json", {"length": tokenizer.length})
    return _write_component_code(folder, "LatentlineTokenizer")


def _text_encoder(info: EncoderInfo) -> Sequence[Path]:
    """Return the files of the pretrained text encoder. Raises UserError where text.path has another one."""
    path = Path(read_params()["text"]["path"])
    PretrainedTextEncoder(path, info, torch.device("cpu"))
    return [file for pattern in _TEXT_FILES for file in sorted(path.glob(pattern))]


def _copy(files: Sequence[Path], folder: Path) -> None:
    for file in files:
        with replaced_file(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)


def _write_component_code(folder: Path, class_name: str) -> tuple[str, str]:
    """Write the class of a component into its folder and return its entry in model_index.json."""
    module = f"latentline_{_kind(class_name)}"
    _write_code(folder / f"{module}.py", class_name)
    return module, class_name


def _write_code(path: Path, class_name: str) -> None:
    """Write a class of this package so that it runs without the package."""
    with replaced_file(path) as temporary:
        text = single_file(f"latentline.tools.diffusers_{_kind(class_name)}", class_name)
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _kind(class_name: str) -> str:
    return class_name.removeprefix("Latentline").lower()


def main() -> None:
    """Command line: one folder."""
    try:
        export_diffusers(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
