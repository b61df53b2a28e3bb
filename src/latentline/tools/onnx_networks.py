"""Networks as ONNX files with a dynamic batch axis."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.diffae import DiffAE
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.files import replaced_file
from latentline.denoisers.moment_matching import MomentMaps

OPSET = 20  # the latest one that this exporter of torch writes
_MAX_BYTES = 2**31 - 2**20  # of one file, with room for the graph: a limit of protobuf


class _Encoder(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images)


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)


class _Denoiser(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.network(z, t, _condition_of(z, condition))


class _Moments(nn.Module):
    def __init__(self, maps: MomentMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.maps(z, _condition_of(z, condition))


def export_autoencoder(folder: Path, autoencoder: Autoencoder, image_shape: tuple[int, ...]) -> None:
    """Write encoder.onnx (images -> latents) and decoder.onnx (latents -> images) of raw latents.

    A diffusion autoencoder has diffusion_decoder.onnx besides, (z, t, condition) -> output, whose condition is the
    latent. Its decoder.onnx is that of its inner autoencoder.
    """
    _export(_Encoder(autoencoder), {"images": torch.zeros(2, *image_shape)}, "latents", folder / "encoder.onnx")
    if isinstance(autoencoder, DiffAE):
        shape, length = autoencoder.noise_shape, autoencoder.latent_shape[0]
        export_denoiser(folder / "diffusion_decoder.onnx", autoencoder.decoder, shape, length)
    inner = autoencoder.inner if isinstance(autoencoder, DiffAE) else autoencoder
    latents = {"latents": torch.zeros(2, *inner.latent_shape)}
    _export(_Decoder(inner), latents, "images", folder / "decoder.onnx")


def export_denoiser(path: Path, network: nn.Module, latent_shape: tuple[int, ...], cond_dim: int) -> None:
    """Write (z, t, condition) -> output to ``path``; without the input ``condition`` where ``cond_dim`` is 0."""
    inputs = {"z": torch.zeros(2, *latent_shape), "t": torch.full((2,), 0.5)}
    _export(_Denoiser(network), inputs | _example_condition(cond_dim), "output", path)


def export_moments(path: Path, maps: MomentMaps, cond_dim: int) -> None:
    """Write (z, condition) -> output to ``path``, of standardised samples, like :func:`export_denoiser`."""
    _export(_Moments(maps), {"z": torch.zeros(2, *maps.latent_shape)} | _example_condition(cond_dim), "output", path)


def _condition_of(z: Tensor, vector: Tensor | None) -> Condition:
    """Return the condition of a batch like ``z``; None = that of an unconditional denoiser."""
    return Condition(z.new_zeros(z.shape[0], 0) if vector is None else vector)


def _example_condition(cond_dim: int) -> dict[str, Tensor]:
    return {"condition": torch.zeros(2, cond_dim)} if cond_dim else {}


def _export(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """Write ``module`` in float32, with the first axis of inputs and output of any length."""
    size = sum(weight.numel() * weight.element_size() for weight in module.state_dict().values())
    if size > _MAX_BYTES:
        raise UserError(f"{path.name} ({size / 2**30:.1f} GiB) must be below 2 GiB; export a smaller network")
    with replaced_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: all that it fixes are lengths other than the batch's
        torch.onnx.export(
            module.eval().requires_grad_(False),
            tuple(inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=False,  # the other exporter takes ten times as long
            dynamic_axes={name: {0: "batch"} for name in [*inputs, output]},
        )
