"""Checks that the ``init_from`` of every section shares: a training that starts from given weights."""

from pathlib import Path
from typing import Any

from latentline.core.errors import UserError
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint


def initial_checkpoint(kind: str, folder: Path, sha256: str | None) -> Checkpoint:
    """Read the checkpoint that stage ``train_<kind>`` of another run wrote into ``folder``.

    Args:
        kind: ``autoencoder`` or ``denoiser``, which is the section of params.yaml too.
        folder: ``init_from``.
        sha256: ``init_from_sha256``.

    Raises:
        UserError: the file is missing, damaged, of another kind or of another sha256.
    """
    path = folder / f"{kind}.safetensors"
    if not path.is_file():
        raise UserError(
            f"{kind}.init_from ({folder}) must be a folder that train_{kind} wrote in another run, but has no "
            f"{path.name}; correct the path"
        )
    try:
        checkpoint = load_checkpoint(path, kind=kind, made_by=f"train_{kind}")
    except UserError as error:
        raise UserError(f"{kind}.init_from: {error}") from None
    require_digest(kind, path, checkpoint.sha256, sha256)
    return checkpoint


def require_digest(section: str, path: Path, found: str, expected: str | None) -> None:
    """Raise UserError unless ``found``, the sha256 of ``path``, is the ``expected`` one; None accepts any."""
    if expected not in (None, found):
        raise UserError(
            f"{section}.init_from_sha256 ({expected}) must be the sha256 of {path}, which is {found}; correct it, or "
            f"{section}.init_from"
        )


def require_same(section: str, folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise UserError that names all in which the network in ``folder`` differs from the one that trains here.

    Args:
        section: of params.yaml.
        folder: its ``init_from``.
        found: setting (or what else shapes a network) -> value.
        wanted: the same of this run. Only names that both have are compared, since other networks have other settings.
    """
    different = [
        f"{name} ({found[name]}, here {value})"
        for name, value in wanted.items()
        if name in found and found[name] != value
    ]
    if different:
        raise UserError(
            f"{section}.init_from ({folder}) must hold a network of this architecture, but it has another "
            f"{', '.join(different)}; change that, or the folder"
        )
