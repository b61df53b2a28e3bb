"""Stage ``download``: fetch, verify, split, prepare and store the images, and draw what the stages will train on."""

import logging

import numpy as np

from latentline.core.files import replaced_folder, scratch_folder, write_metrics
from latentline.core.load_params import load
from latentline.core.paths import FIGURES, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from stages.download.duplicates import Duplicates, find_duplicates
from stages.download.params import DataParams
from stages.download.prepare import Options, PrepareResult, prepare
from stages.download.registry import read_source
from stages.download.report import draw_figures, duplicate_rows, metrics, write_tables
from stages.download.source import SourceOptions
from stages.download.subset import of_classes

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``data``; write data/prepared, metrics/data.json and fig/download."""
    params, seed, compute = load("data", DataParams)
    with scratch_folder(PREPARED.with_name("scratch")) as scratch:
        source = read_source(SourceOptions.of(params, scratch))
        if params.classes is not None:
            source = of_classes(source, params.classes)
        result = prepare(source, PREPARED, Options.of(params, seed, compute.workers))
        duplicates = find_duplicates({name: np.concatenate(split.digests) for name, split in result.stats.items()})
        repeated = duplicate_rows(duplicates, result, source)
    _warn(result, duplicates)
    write_metrics(METRICS / "data.json", metrics(result, duplicates, read_card(PREPARED).classes, source))
    with replaced_folder(FIGURES / "download") as folder:
        draw_figures(folder, read_split(PREPARED, "train"))
        write_tables(folder, result.unreadable, repeated, source)


def _warn(result: PrepareResult, duplicates: Duplicates) -> None:
    """Log how many images were left out or are in two splits."""
    if result.unreadable:
        count = len(result.unreadable)
        log.warning("%d unreadable images were left out; fig/download/unreadable.csv lists them", count)
    if duplicates.across:
        message = "%d images of val or test are also in another split; fig/download/duplicates.csv lists them"
        log.warning(message, duplicates.across)


if __name__ == "__main__":
    run_stage("download", main)
