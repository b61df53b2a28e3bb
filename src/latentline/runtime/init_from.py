"""Begin with given weights: what holds for the ``init_from`` of every section."""

from pathlib import Path
from typing import Any

from latentline.core.errors import UserError
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint


def initial_checkpoint(kind: str, folder: Path, sha256: str | None) -> Checkpoint:
    """Read the checkpoint that another run wrote into ``folder`` for stage ``train_<kind>``.

    Args:
        kind: ``autoencoder`` or ``denoiser``, which is the section of params.yaml too.
        folder: ``init_from``.
        sha256: ``init_from_sha256``.

    Raises:
        UserError: the file is missing, damaged, of another kind or not the one that ``sha256`` says.
    """
    path = folder / f"{kind}.safetensors"
    if not path.is_file():
        raise UserError(f"{kind}.init_from: {folder} has no {path.name}; expected a folder that train_{kind} wrote in another run; correct the path")
    try:
        checkpoint = load_checkpoint(path, kind=kind, made_by=f"train_{kind}")
    except UserError as error:
        raise UserError(f"{kind}.init_from: {error}") from None
    require_digest(kind, path, checkpoint.sha256, sha256)
    return checkpoint


def require_digest(section: str, path: Path, found: str, expected: str | None) -> None:
    """Raise UserError unless the file at ``path`` has the sha256 that ``init_from_sha256`` says; null there takes any."""
    if expected not in (None, found):
        raise UserError(
            f"{section}.init_from_sha256: {expected}, but {path} has {found}; expected the file that was meant; correct {section}.init_from, or this"
        )


def require_same(section: str, folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise UserError that names all in which the network in ``folder`` differs from the one that trains here.

    Args:
        section: of params.yaml.
        folder: its ``init_from``.
        found: knob (or what else shapes a network) -> value.
        wanted: the same of this run; only what both have is compared, since a network of another name has other knobs.
    """
    different = [f"{knob} ({found[knob]}, here {value})" for knob, value in wanted.items() if knob in found and found[knob] != value]
    if different:
        raise UserError(
            f"{section}.init_from: the network in {folder} has another {', '.join(different)}; expected the same; change that, or the folder"
        )
