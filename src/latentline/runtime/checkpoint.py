"""Checkpoints: weights, and all that is needed to build the network again and to trace what it was trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import sha256_file


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, as read."""

    path: Path
    name: str  # of the network's class, as in params.yaml
    constructor: dict[str, Any]
    trained_on: dict[str, str]  # what -> sha256
    settings: dict[str, Any]  # what else is needed to use the network: a denoiser's condition, for example
    tensors: dict[str, Tensor]
    sha256: str  # of the file
    made_by: str  # the stage

    def load_into(self, module: nn.Module) -> None:
        """Copy the weights. Raises UserError when they do not fit."""
        try:
            module.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise UserError(
                f"{self.path}: its weights do not fit its constructor arguments ({error}); remove it and run "
                f"`dvc repro {self.made_by}`"
            ) from None


def save_checkpoint(
    path: Path,
    *,
    kind: str,
    name: str,
    constructor: dict[str, Any],
    trained_on: dict[str, str],
    tensors: dict[str, Tensor],
    settings: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        kind: ``autoencoder``, ``denoiser``, ...; a reader requires one.
        name: of the network's class.
        constructor: its keyword arguments, as JSON can hold them.
        trained_on: what -> sha256 of it.
        tensors: the state dict.
        settings: needed to use the network, besides the constructor.
    """
    meta = {
        "kind": kind,
        "name": name,
        "constructor": constructor,
        "trained_on": trained_on,
        "settings": settings or {},
    }
    save_arrays(path, tensors, meta)


def load_checkpoint(path: Path, *, kind: str, made_by: str) -> Checkpoint:
    """Read a checkpoint. Raises UserError when it is missing, damaged or of another kind."""
    tensors, meta = load_arrays(path, made_by, kind=kind)
    if missing := [key for key in ("name", "constructor", "trained_on", "settings") if key not in meta]:
        raise UserError(
            f"{path} is damaged: its metadata has no {', '.join(missing)}; remove it and run `dvc repro {made_by}`"
        )
    return Checkpoint(
        path,
        meta["name"],
        meta["constructor"],
        meta["trained_on"],
        meta["settings"],
        tensors,
        sha256_file(path),
        made_by,
    )
