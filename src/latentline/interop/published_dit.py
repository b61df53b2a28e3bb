"""Published weights of DiT (arXiv 2212.09748) and SiT (arXiv 2401.08740) as weights of this project's ``dit``.

Both have the same network. They differ from ours, and from each other, in what they call time and in the sign of the
output. All of it is linear in the first layer of the time or in the last layer, so that it goes into these weights:
the network that results takes our t and gives our prediction.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PublishedConvention:
    """How the authors' network relates to ours.

    Args:
        scale: |d (their time) / dt|, in which our frequencies are given (``denoiser.time_scale``).
        direction: 1 where their time rises with our t, else -1.
        offset: their time at t = 0.
        sign: of their output, relative to ours.
    """

    scale: float
    direction: int
    offset: float
    sign: int


CONVENTIONS = {  # (path, prediction) -> whose weights these are
    # DiT: noise at step i = 0 .. 999 of DDPM's schedule, which is our t = (i + 1) / 1000.
    ("vp_linear", "epsilon"): PublishedConvention(scale=1000.0, direction=1, offset=-1.0, sign=1),
    # SiT: from noise at 0 to data at 1, and its velocity is data - noise.
    ("flow", "velocity"): PublishedConvention(scale=1.0, direction=-1, offset=1.0, sign=-1),
}
_BLOCK = {  # our name within a block -> theirs
    "modulation": "adaLN_modulation.1",
    "qkv": "attn.qkv",
    "mix": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_IN_DIFFUSERS = {  # name in a block of diffusers -> theirs
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
_EMBEDDERS = {  # the same, of what each block of diffusers holds a copy of
    "norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "norm1.emb.class_embedder.embedding_table": "y_embedder.embedding_table",
}
_ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}


def published_settings(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the settings of the ``dit`` that these weights are of; they do not show the number of heads.

    Raises:
        ValueError: these are no weights of a DiT or SiT.
    """
    patches = _tensor(tensors, "x_embedder.proj.weight", 4)  # (D, C, p, p)
    width, channels, patch_size, _ = patches.shape
    outputs, predicted = len(_tensor(tensors, "final_layer.linear.weight", 2)), channels * patch_size**2
    if outputs not in (predicted, 2 * predicted):
        raise ValueError(f"the rows of final_layer.linear.weight ({outputs}) must be {predicted} or twice that")
    settings: dict[str, Any] = {
        "width": width,
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        "patch_size": patch_size,
        "time_features": _tensor(tensors, "t_embedder.mlp.0.weight", 2).shape[1],
        "learn_sigma": outputs == 2 * predicted,
        "qk_norm": False,
        "norm": "layer",
        "mlp": "gelu",
        "rope": False,
        "cond_dim": len(_tensor(tensors, "y_embedder.embedding_table.weight", 2)) - 1,
    }
    if "pos_embed" in tensors:
        side = patch_size * math.isqrt(_tensor(tensors, "pos_embed", 3).shape[1])
        settings["latent_shape"] = [channels, side, side]
    return settings


def from_published(network: nn.Module, tensors: dict[str, Tensor], convention: PublishedConvention) -> None:
    """Copy published weights into ``network``, a ``dit`` with ``time_features``.

    Args:
        network: of the settings that :func:`published_settings` returns.
        tensors: under the authors' names.
        convention: theirs.

    Raises:
        ValueError: a tensor is missing, left over or of another shape; nothing is copied.
    """
    own, theirs = network.state_dict(), _Taken({name: tensor.float() for name, tensor in tensors.items()})
    positions = network.get_buffer("positions").cpu()  # (N, D)
    fixed = theirs.take("pos_embed")[0] if "pos_embed" in tensors else positions
    if fixed.shape != positions.shape or not torch.allclose(fixed, positions, atol=1e-4):
        raise ValueError("pos_embed must hold the sines and cosines of each patch's position")
    frequencies = network.get_buffer("embedding.features.frequencies").cpu()  # (F,), in radians per unit of our t
    table = theirs.take("y_embedder.embedding_table.weight")  # (classes + 1, D); the last row is the null condition
    copied = {
        "embedding.time.0.weight": _time_weight(theirs.take("t_embedder.mlp.0.weight"), frequencies, convention),
        "embedding.time.0.bias": theirs.take("t_embedder.mlp.0.bias"),
        "embedding.time.2.weight": theirs.take("t_embedder.mlp.2.weight"),
        "embedding.time.2.bias": theirs.take("t_embedder.mlp.2.bias") + table[-1],
        "embedding.condition.weight": (table[:-1] - table[-1]).T,  # (D, classes)
        "stem.weight": theirs.take("x_embedder.proj.weight").flatten(1),  # (D, C p^2)
        "stem.bias": theirs.take("x_embedder.proj.bias"),
        "modulation.weight": theirs.take("final_layer.adaLN_modulation.1.weight"),
        "modulation.bias": theirs.take("final_layer.adaLN_modulation.1.bias"),
    }
    patch_size = math.isqrt(copied["stem.weight"].shape[1] // tensors["x_embedder.proj.weight"].shape[1])
    for leaf in ("weight", "bias"):
        outputs = theirs.take(f"final_layer.linear.{leaf}")  # (p p C', ...): the channel varies fastest
        by_channel = outputs.unflatten(0, (patch_size**2, -1)).transpose(0, 1).flatten(0, 1)  # (C' p p, ...)
        copied[f"out.{leaf}"] = convention.sign * by_channel
    for block in sorted({name.split(".")[1] for name in own if name.startswith("blocks.")}):
        for inner, other in _BLOCK.items():
            for leaf in ("weight", "bias"):
                copied[f"blocks.{block}.{inner}.{leaf}"] = theirs.take(f"blocks.{block}.{other}.{leaf}")
    if theirs.left:
        raise ValueError(f"{min(theirs.left)} belongs to no layer of this network")
    for name, value in own.items():
        if name not in copied or copied[name].shape != value.shape:
            found = tuple(copied[name].shape) if name in copied else None
            raise ValueError(f"the shape of {name}, {found}, must be {tuple(value.shape)}")
    network.load_state_dict({name: copied[name] for name in own})


def published_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of diffusers' ``DiTTransformer2DModel`` under the authors' names.

    Raises:
        ValueError: the blocks embed time or class differently, which the authors' network cannot.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        if path.startswith("transformer_blocks."):
            _, block, inner = path.split(".", maxsplit=2)
            shared = _EMBEDDERS.get(inner)
            path = shared or f"blocks.{block}.{_IN_DIFFUSERS.get(inner, inner)}"
            if shared and not torch.equal(renamed.get(f"{path}.{leaf}", tensor), tensor):
                raise ValueError(f"{name} must be the same in every block")
        renamed[f"{_ENDS.get(path, path)}.{leaf}"] = tensor
    for name in [name for name in renamed if ".attn1.to_q." in name]:
        parts = [renamed.pop(name.replace("to_q", part), torch.empty(0)) for part in ("to_q", "to_k", "to_v")]
        renamed[name.replace("attn1.to_q", "attn.qkv")] = torch.cat(parts)
    return renamed


def _time_weight(weight: Tensor, frequencies: Tensor, convention: PublishedConvention) -> Tensor:
    """Return the first layer of the time for our features (sines, then cosines, of our t).

    Their features are cosines, then sines, of the angle direction * (frequency * t) + phase. The addition theorems
    express these by ours.
    """
    of_cosines, of_sines = weight.double().chunk(2, dim=1)  # (D, F) each
    phase = frequencies.double() / convention.scale * convention.offset  # (F,)
    turned = convention.direction * (of_sines * phase.cos() - of_cosines * phase.sin())
    kept = of_cosines * phase.cos() + of_sines * phase.sin()
    return torch.cat([turned, kept], dim=1).float()


def _tensor(tensors: dict[str, Tensor], name: str, dimensions: int) -> Tensor:
    if name not in tensors or tensors[name].ndim != dimensions:
        raise ValueError(f"{name} is missing or has other than {dimensions} dimensions")
    return tensors[name]


class _Taken:
    """Tensors by name; each can be taken once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.left = tensors

    def take(self, name: str) -> Tensor:
        """Return the tensor ``name``. Raises ValueError where it is missing."""
        if name not in self.left:
            raise ValueError(f"{name} is missing")
        return self.left.pop(name)
