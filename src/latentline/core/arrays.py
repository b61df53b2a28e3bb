"""Arrays on disk: safetensors with one canonical metadata key, written whole, read without ever running code from a file.

The key also holds a sha256 of all that the file says, so that a flipped bit anywhere is noticed before a number is used.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.files import canonical_json, replaced_file

_KEY = "latentline"  # one key only: safetensors stores several keys in no fixed order, which changes the bytes


def save_arrays(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write ``tensors`` and ``meta`` (anything JSON can hold) to ``path``; equal inputs give equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replaced_file(path) as temporary:
        save_file(plain, temporary, {_KEY: canonical_json({"meta": meta, "sha256": _content_digest(plain, meta)})})


def load_arrays(path: Path, made_by: str, *, kind: str | None = None, verify: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote; the tensors are memory-mapped.

    Args:
        path: the file.
        made_by: stage that writes it, for error messages.
        kind: what ``meta`` must call the file; None = anything.
        verify: whether all bytes are read at once and compared with the file's own digest (0.6 GB or more per second on one
            core); False, for files whose digest was checked already, reads bytes when they are used.

    Raises:
        UserError: the file is missing, truncated, changed since, of another kind, or was not written by this project.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        meta, written_with = record["meta"], record["sha256"]
        changed = verify and _content_digest(tensors, meta) != written_with
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged or foreign ({' '.join(str(error).split())}); remove it and run `dvc repro {made_by}`") from None
    if changed:
        raise UserError(f"{path} is damaged: its content no longer has the sha256 that it was written with; remove it and run `dvc repro {made_by}`")
    if kind is not None and meta.get("kind") != kind:
        raise UserError(f"{path} holds a {meta.get('kind')}, expected a {kind}; run `dvc repro {made_by}`")
    return tensors, meta


def _content_digest(tensors: dict[str, Tensor], meta: dict[str, Any]) -> str:
    """Hex sha256 of the metadata, then of each tensor's name, number format, shape and bytes, in the order of names."""
    digest = hashlib.sha256(canonical_json(meta).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
