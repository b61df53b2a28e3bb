"""Arrays on disk: safetensors with one canonical metadata key, written whole, read without ever running code from a file."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentline.common.errors import UserError
from latentline.common.files import canonical_json, replaced_file

_KEY = "latentline"  # one key only: safetensors stores several keys in no fixed order, which changes the bytes


def save_arrays(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write ``tensors`` and ``meta`` (anything JSON can hold) to ``path``; equal inputs give equal bytes."""
    with replaced_file(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, {_KEY: canonical_json(meta)})


def load_arrays(path: Path, made_by: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote; the tensors are memory-mapped, so bytes are read when they are used.

    Raises:
        UserError: the file is missing, truncated, or was not written by this project.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or foreign ({error}); remove it and run `dvc repro {made_by}`") from None
