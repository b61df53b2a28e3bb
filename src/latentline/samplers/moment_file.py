"""Read and write the moment maps of stage ``sample`` (checkpoints/moment_maps)."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from latentline.core.files import refusing_earlier_versions, sha256_file
from latentline.core.paths import DENOISER, MOMENT_MAPS
from latentline.denoisers.moment_matching import MomentMaps
from latentline.runtime.checkpoint import load_checkpoint, save_checkpoint
from latentline.samplers.settings import SamplingSettings

_KIND, _MADE_BY = "moment_maps", "sample"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedMoments:
    """The maps of stage ``sample``, and the samples that they serve."""

    maps: MomentMaps | None
    """None = samples stay as they are drawn."""
    sampling: SamplingSettings
    """Of the samples that they were measured on."""

    def maps_for(self, sampling: SamplingSettings) -> MomentMaps | None:
        """Return the maps for samples that are drawn with these settings; None = there are none."""
        return self.maps if sampling == self.sampling else None


def save_moments(moments: SavedMoments) -> None:
    """Write the maps, measured on samples of the denoiser in checkpoints/. Without maps the file says so."""
    maps = moments.maps
    save_checkpoint(
        MOMENT_MAPS,
        kind=_KIND,
        name="none" if maps is None else "affine",
        constructor={} if maps is None else maps.constructor,
        trained_on={"denoiser": sha256_file(DENOISER)},
        tensors={} if maps is None else maps.state_dict(),
        settings={"sampling": asdict(moments.sampling)},
    )


def load_moments(device: torch.device, root: Path = Path()) -> SavedMoments | None:
    """Read the maps in ``root``/checkpoints/moment_maps; None = there is no file, or it is of another denoiser.

    Raises:
        UserError: the file is damaged or of an earlier version.
    """
    path = root / MOMENT_MAPS
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path, kind=_KIND, made_by=_MADE_BY)
    with refusing_earlier_versions(path, _MADE_BY):
        if checkpoint.trained_on["denoiser"] != sha256_file(root / DENOISER):
            return None
        sampling = SamplingSettings(**checkpoint.settings["sampling"])
        maps = MomentMaps(**checkpoint.constructor) if checkpoint.constructor else None
    if maps is not None:
        checkpoint.load_into(maps)
        maps = maps.requires_grad_(False).to(device)
    return SavedMoments(maps, sampling)


def maps_to_export(sampling: SamplingSettings, moment_samples: int) -> MomentMaps | None:
    """Return the maps, on the CPU, for an export whose samples are drawn with these settings.

    Where stage ``sample`` was to measure maps, and the file does not hold those of ``sampling``, a warning says so.

    Raises:
        UserError: the file is damaged or of an earlier version.
    """
    if not moment_samples:
        return None
    moments = load_moments(torch.device("cpu"))
    if moments is not None and moments.sampling == sampling:
        return moments.maps
    log.warning(
        "the export draws without moment matching, since %s; run `dvc repro --single-item sample`, and export again",
        f"{MOMENT_MAPS} is missing, or of another denoiser"
        if moments is None
        else f"{MOMENT_MAPS} was measured with other settings of section sample",
    )
    return None
