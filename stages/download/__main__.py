"""Stage ``download``: fetch, verify, split, prepare and store the images, and draw what the stages will train on."""

import logging
from collections import Counter
from functools import partial

import numpy as np

from latentline.core.files import replaced_folder, scratch_folder, write_metrics
from latentline.core.labels import build_schema
from latentline.core.load_params import load, require_images
from latentline.core.paths import FIGURES, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.image_files import LITTER, in_words
from latentline.data.store import read_card, read_split
from stages.download.caption_report import caption_metrics, log_captions, write_caption_figures
from stages.download.duplicates import Duplicates, find_duplicates
from stages.download.label_warnings import warn_of_labels
from stages.download.params import DataParams
from stages.download.prepare import Options, PrepareResult, prepare
from stages.download.registry import read_source
from stages.download.report import draw_figures, duplicate_rows, metrics, write_tables
from stages.download.source import SourceOptions
from stages.download.subset import of_classes
from stages.download.value_range import warn_of_range

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``data``; write data/prepared, metrics/data.json and fig/download."""
    params, seed, compute = load("data", DataParams)
    with scratch_folder(PREPARED.with_name("scratch")) as scratch:
        source = read_source(SourceOptions.of(params, scratch))
        if params.classes is not None:
            source = of_classes(source, params.classes)
        schema = build_schema(source.card.classes, source.card.attributes)
        enough = partial(require_images, schema=schema, captions=source.captions is not None)
        result = prepare(source, PREPARED, Options.of(params, seed, compute.workers), enough)
        duplicates = find_duplicates({name: np.concatenate(split.digests) for name, split in result.stats.items()})
        repeated = duplicate_rows(duplicates, result, source)
        warn_of_range(result.stats, source, params.value_range)
        warn_of_labels(source, result.stats)
    _warn(result, duplicates, source.left_out)
    log_captions(source, result)
    found = metrics(result, duplicates, read_card(PREPARED).classes, source)
    write_metrics(METRICS / "data.json", found | caption_metrics(source, result))
    with replaced_folder(FIGURES / "download") as folder:
        train = read_split(PREPARED, "train")
        draw_figures(folder, train)
        write_tables(folder, result, repeated, source)
        write_caption_figures(folder, train, source, result)


def _warn(result: PrepareResult, duplicates: Duplicates, left_out: dict[str, str]) -> None:
    """Log how many files and images were left out, by kind, and how many images are in two splits."""
    if kinds := Counter(left_out.values()):
        level = logging.INFO if set(kinds) == {LITTER} else logging.WARNING
        log.log(level, "left out of data.path: %s; fig/download/left_out.csv lists them", in_words(kinds))
    if count := result.unreadable.count:
        log.warning("%d unreadable images were left out; fig/download/unreadable.csv lists them", count)
    if count := result.cropped.count:
        message = "%d images have other proportions than %d x %d and lost their edges; see fig/download/cropped.csv"
        log.warning(message, count, *result.shape[:0:-1])
    if duplicates.across:
        message = "%d images of val or test are also in another split; fig/download/duplicates.csv lists them"
        log.warning(message, duplicates.across)


if __name__ == "__main__":
    run_stage("download", main)
