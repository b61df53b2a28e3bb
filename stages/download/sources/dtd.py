"""Describable Textures: 5,640 images of 47 textures, of many sizes.

``dtd-r1.0.1.tar.gz`` holds ``dtd/images/banded/banded_0002.jpg`` ... and, for each of ten divisions of the data, the
lists ``dtd/labels/train1.txt``, ``val1.txt`` and ``test1.txt`` of lines such as ``banded/banded_0002.jpg``
(https://www.robots.ox.ac.uk/~vgg/data/dtd/). The first division is used, as in torchvision.
"""

import numpy as np

from stages.download.archives import TarImages, gunzip, lacks, read_span, tar_spans
from stages.download.fetch import md5
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/"
_LARGEST = 4 << 30  # bytes, unpacked


def read_dtd(options: SourceOptions) -> Source:
    """Return train, val and test of the first division."""
    from torchvision.datasets.dtd import DTD  # here, since its import takes seconds

    archive = md5("dtd-r1.0.1.tar.gz", DTD._MD5, DTD._URL)
    packed = publisher_files(options, "DTD", [archive], _PAGE)[archive.name]
    path = options.scratch / "dtd.tar"
    gunzip(packed, path, _LARGEST)
    spans = tar_spans(path)
    try:
        lists = {
            split: read_span(path, spans[f"dtd/labels/{split}1.txt"]).decode("ascii").split()
            for split in ("train", "val", "test")
        }
        classes = sorted({name.split("/")[0] for names in lists.values() for name in names})
        splits = {}
        for split, names in lists.items():
            members = [f"dtd/images/{name}" for name in names]
            labels = np.array([classes.index(name.split("/")[0]) for name in names], np.int64)
            splits[split] = SourceSplit(TarImages(members, path, [spans[member] for member in members]), labels)
    except KeyError as error:
        raise lacks(packed, str(error)) from None
    card = Card(
        name="dtd",
        classes=tuple(classes),
        licence="for research purposes only",
        source=_PAGE,
        citation="M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed, A. Vedaldi: Describing Textures in the Wild. CVPR 2014",
    )
    return Source(card, splits)
