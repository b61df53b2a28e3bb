"""Arrays on disk: safetensors with one canonical metadata key, written whole.

Reading a file never runs code from it. The key also holds a sha256 of the content, so that a flipped bit anywhere is
noticed before a number is used.
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


def load_arrays(
    path: Path, made_by: str, *, kind: str | None = None, verify: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, memory-mapped, and the metadata that :func:`save_arrays` wrote.

    Args:
        path: the file.
        made_by: stage that writes it, for error messages.
        kind: required value of ``meta["kind"]``; None = any.
        verify: True compares all bytes with the file's own digest, at 0.6 GB or more per second on one core. False is
            for files whose digest was checked already; their bytes are read when they are used.

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
        raise UserError(
            f"{path} is damaged or foreign ({' '.join(str(error).split())}); remove it and run `dvc repro {made_by}`"
        ) from None
    if changed:
        raise UserError(
            f"{path} is damaged: its content no longer has the sha256 that it was written with; "
            f"remove it and run `dvc repro {made_by}`"
        )
    if kind is not None and meta.get("kind") != kind:
        raise UserError(f"{path} ({meta.get('kind')}) must be of kind {kind}; run `dvc repro {made_by}`")
    return tensors, meta


def _content_digest(tensors: dict[str, Tensor], meta: dict[str, Any]) -> str:
    """Return the hex sha256 of the metadata and of each tensor's name, dtype, shape and bytes, by name."""
    digest = hashlib.sha256(canonical_json(meta).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
