"""ImageNet, ILSVRC2012: 1,281,167 + 50,000 colour images of many sizes in 1,000 classes.

Format (readme.txt of the devkit):

ILSVRC2012_img_train.tar       one tar per class, ``n01440764.tar``, with ``n01440764_18.JPEG`` ...
ILSVRC2012_img_val.tar         ``ILSVRC2012_val_00000001.JPEG`` ...
ILSVRC2012_devkit_t12.tar.gz   ``data/meta.mat`` (the synsets: id, wnid, words) and
                               ``data/ILSVRC2012_validation_ground_truth.txt`` (one id per val image, by file name)

Labels of the publisher's test images are not public, so the publisher's val is our test.
"""

import io
from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from stages.download.archives import TarImages, read_tar_gz, tar_spans
from stages.download.fetch import md5
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
_DEVKIT = "ILSVRC2012_devkit_t12"
_LARGEST_TABLE = 64 << 20  # bytes


def read_imagenet(options: SourceOptions) -> Source:
    """Return train, and val as test.

    The files need an account, so they must be in ``data.root``. They are read in place.
    """
    from torchvision.datasets.imagenet import ARCHIVE_META  # here, since its import takes seconds

    files = [md5(*ARCHIVE_META[part]) for part in ("train", "val", "devkit")]
    train, val, devkit = publisher_files(options, "ImageNet", files, _PAGE).values()
    wnids, words, truth = _devkit(devkit)
    order = {wnid: index for index, wnid in enumerate(sorted(wnids.values()))}  # the usual numbers of the classes
    val_spans = dict(sorted(tar_spans(val).items()))
    if len(val_spans) != len(truth):
        raise UserError(
            f"{val} ({len(val_spans)} images) must have the {len(truth)} images of {devkit}; fetch both again"
        )
    test_labels = np.array([order[wnids[number]] for number in truth], np.int64)
    card = Card(
        name="imagenet",
        classes=tuple(f"{words[wnid].split(',')[0]} ({wnid})" for wnid in order),
        licence="for non-commercial research only",
        source=_PAGE,
        citation="O. Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. IJCV 115, 2015",
    )
    return Source(
        card,
        {
            "train": _train(train, order),
            "test": SourceSplit(TarImages(list(val_spans), val, list(val_spans.values())), test_labels),
        },
    )


def _train(path: Path, order: dict[str, int]) -> SourceSplit:
    names, spans, labels = [], [], []
    for member, inside in sorted(tar_spans(path).items()):
        wnid = member.removesuffix(".tar")
        if wnid not in order:
            raise UserError(f"{path} ({member}) must only contain classes of the devkit; fetch it again")
        for name, span in sorted(tar_spans(path, inside).items()):
            names.append(name)
            spans.append(span)
            labels.append(order[wnid])
    return SourceSplit(TarImages(names, path, spans), np.array(labels, np.int64))


def _devkit(path: Path) -> tuple[dict[int, str], dict[str, str], list[int]]:
    """Return wnids by synset number, words by wnid, and the synset number of each val image."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    meta, truth = f"{_DEVKIT}/data/meta.mat", f"{_DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"
    files = read_tar_gz(path, [meta, truth], _LARGEST_TABLE)
    try:
        synsets = loadmat(io.BytesIO(files[meta]), squeeze_me=True)["synsets"]
        leaves = synsets[synsets["num_children"] == 0]
        wnids = {int(number): str(wnid) for number, wnid in zip(leaves["ILSVRC2012_ID"], leaves["WNID"], strict=True)}
        words = {str(wnid): str(text) for wnid, text in zip(leaves["WNID"], leaves["words"], strict=True)}
        numbers = [int(line) for line in files[truth].split()]
        if unknown := next((number for number in numbers if number not in wnids), None):
            raise ValueError(f"val images of synset {unknown}")
    except (ValueError, TypeError, KeyError, IndexError, MatReadError) as error:
        raise UserError(f"{path} ({error}) must be ImageNet's devkit; fetch it again") from None
    return wnids, words, numbers
