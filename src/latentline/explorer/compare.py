"""Two revisions or experiments side by side: samples of equal seeds, settings and scores that differ."""

import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from latentline import load
from latentline.core.errors import UserError
from latentline.core.load_params import parse_params
from latentline.core.nested import by_dotted_name
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_LABELS, LATENT_STATS, LATENT_TEXT, MOMENT_MAPS
from latentline.explorer.sampling import SampleRequest, draw
from latentline.explorer.session import Session
from latentline.report.run import Run, read_revision, read_workspace
from latentline.report.scores import headline_scores
from latentline.report.settings import differences
from latentline.samplers.moment_file import load_moments

HERE = "this folder"
_GRID = "fig/sample/grid.png"
_NAMED = 30  # names in the list
_COUNT = 20  # images of each side


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs."""

    images: tuple[Tensor | None, Tensor | None]
    """uint8 (N, C, H, W) of equal seeds each; None = that run's networks are not in DVC's cache."""
    pictures: tuple[bytes | None, bytes | None]
    """The grids of samples that git holds, as PNG."""
    settings: list[tuple[str, str, str]]
    """Name, and the value on each side."""
    scores: list[tuple[str, str, str]]
    """Score in words, and the value on each side."""


def revisions() -> list[str]:
    """Return names to choose from: this folder, experiments, branches and tags, the newest first."""
    kinds = ("refs/exps", "refs/heads", "refs/tags")
    command = ["git", "for-each-ref", "--sort=-creatordate", "--format=%(refname)", *kinds]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    names = [name.removeprefix("refs/heads/").removeprefix("refs/tags/") for name in found]
    short = [name.rsplit("/", 1)[1] if name.startswith("refs/exps/") else name for name in names]
    hidden = ("stash", "celery", "EXEC_", "apply", "exec")
    return [HERE, *[name for name in dict.fromkeys(short) if not name.startswith(hidden)][:_NAMED]]


def compare(session: Session, names: tuple[str, str], seed: int = 0) -> Comparison:
    """Compare two runs by name: ``HERE``, or a git revision or DVC experiment.

    Raises:
        UserError: there is no such revision, or it holds no run.
    """
    for name in names:
        if not name.strip() or name.startswith("-"):
            raise UserError(f"revision ({name!r}) must be a git revision or an experiment; take one from the list")
    runs = [read_workspace() if name == HERE else read_revision(name.strip()) for name in names]
    columns = [run.settings for run in runs]
    settings = [(one.name, *one.values) for one in differences(columns, runs[0].settings_text)]
    scores = [(score.text, *map(_number, score.values)) for score in headline_scores(runs)]
    images = [_images(session, run, name, seed) for run, name in zip(runs, names, strict=True)]
    pictures = [run.files.get(_GRID) for run in runs]
    return Comparison(
        (images[0], images[1]),
        (pictures[0], pictures[1]),
        [(name, *map(str, values)) for name, *values in settings],  # type: ignore[misc]
        scores,  # type: ignore[arg-type]
    )


def _images(session: Session, run: Run, name: str, seed: int) -> Tensor | None:
    """Draw the first samples of a run, of its own settings but with this seed."""
    other = session if name == HERE else _session(run.revision, session.model.device)
    if other is None or not other.has_denoiser:
        return None
    return draw(other, SampleRequest.of_run(other, count=_COUNT, seed=seed)).images


@lru_cache(maxsize=2)
def _session(revision: str, device: torch.device) -> Session | None:
    """Load the networks of a revision from DVC's cache; None = they are not there."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    names = (AUTOENCODER.parent, DENOISER.parent, LATENT_STATS, LATENT_LABELS, LATENT_TEXT)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            # Never a remote of another machine: comparing sends no request.
            files = DVCFileSystem(".", rev=revision, config={"core": {"remote": "weights"}})
            (root / "encoded_img").mkdir()
            (root / "checkpoints").mkdir()
            for name in names:
                files.get(name.as_posix(), str(root / name), recursive=True)
            with suppress(DvcException, OSError):  # no run of an earlier version has it
                files.get(MOMENT_MAPS.as_posix(), str(root / MOMENT_MAPS))
            settings = by_dotted_name(parse_params(files.read_text("params.yaml")))
            session = Session(load(root, device), settings, moments=load_moments(device, root))
            _ = session.training_labels  # read before the folder is removed
        except (DvcException, OSError, UserError):  # not in the cache, or of an earlier version
            return None
    return session


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4g}"
