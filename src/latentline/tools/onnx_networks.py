"""Networks as ONNX files with a dynamic batch axis."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from latentline.autoencoders.base import Autoencoder
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.files import replaced_file

OPSET = 20
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

    def forward(self, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.autoencoder.decode(latents, noise)


class _Denoiser(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.network(z, t, Condition(z.new_zeros(len(z), 0) if condition is None else condition))


def export_autoencoder(folder: Path, autoencoder: Autoencoder, image_shape: tuple[int, ...]) -> None:
    """Write encoder.onnx (images -> latents) and decoder.onnx (latents -> images) of raw latents.

    The decoder of a diffusion autoencoder takes ``noise`` too.
    """
    latents = {"latents": torch.zeros(2, *autoencoder.latent_shape)}
    if autoencoder.noise_shape is not None:
        latents["noise"] = torch.zeros(2, *autoencoder.noise_shape)
    _export(_Encoder(autoencoder), {"images": torch.zeros(2, *image_shape)}, "latents", folder / "encoder.onnx")
    _export(_Decoder(autoencoder), latents, "images", folder / "decoder.onnx")


def export_denoiser(folder: Path, network: nn.Module, latent_shape: tuple[int, ...], cond_dim: int) -> None:
    """Write denoiser.onnx: (z, t, condition) -> output; without the input ``condition`` where ``cond_dim`` is 0."""
    inputs = {"z": torch.zeros(2, *latent_shape), "t": torch.full((2,), 0.5)}
    if cond_dim:
        inputs["condition"] = torch.zeros(2, cond_dim)
    _export(_Denoiser(network), inputs, "output", folder / "denoiser.onnx")


def _export(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """Write ``module`` in float32, with the first axis of inputs and output of any length."""
    size = sum(weight.numel() * weight.element_size() for weight in module.state_dict().values())
    if size > _MAX_BYTES:
        raise UserError(f"{path.name} ({size / 2**30:.1f} GiB) must be below 2 GiB; export a smaller network")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with replaced_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated parts of torch itself, about which a user can do nothing
        torch.onnx.export(
            module.eval().requires_grad_(False),
            tuple(inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
            external_data=False,
            verbose=False,
        )
