"""Data sets by name."""

from collections.abc import Callable

from latentline.core.errors import UserError
from stages.download.source import Source, SourceOptions
from stages.download.sources.array import read_array
from stages.download.sources.celeba import read_celeba
from stages.download.sources.cifar import read_cifar10, read_cifar100
from stages.download.sources.digits import read_digits
from stages.download.sources.dtd import read_dtd
from stages.download.sources.folder import read_folder
from stages.download.sources.huggingface import read_huggingface
from stages.download.sources.imagenet import read_imagenet
from stages.download.sources.medmnist import read_medmnist
from stages.download.sources.mnist import read_emnist, read_fashion_mnist, read_mnist
from stages.download.sources.places365 import read_places365
from stages.download.sources.svhn import read_svhn
from stages.download.sources.tinyimagenet import read_tinyimagenet

_READERS: dict[str, Callable[[SourceOptions], Source]] = {
    "mnist": read_mnist,
    "fashion_mnist": read_fashion_mnist,
    "emnist": read_emnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "svhn": read_svhn,
    "celeba": read_celeba,
    "chestmnist": read_medmnist,
    "octmnist": read_medmnist,
    "tissuemnist": read_medmnist,
    "pneumoniamnist": read_medmnist,
    "tinyimagenet": read_tinyimagenet,
    "places365": read_places365,
    "dtd": read_dtd,
    "imagenet": read_imagenet,
    "digits": read_digits,
    "image_folder": read_folder,
    "array": read_array,
    "huggingface": read_huggingface,
}


def read_source(options: SourceOptions) -> Source:
    """Find, check and open the files of the data set ``options.name``. Raises UserError where one is missing or bad."""
    if options.attributes and options.name not in ("image_folder", "huggingface"):
        raise UserError(f"data.attributes ({options.attributes}) must be {{}} for {options.name}; set it so")
    source = _READERS[options.name](options)
    if options.attributes and not source.columns:
        raise UserError(f"data.attributes ({options.attributes}) must be {{}} without a CSV of labels; set data.labels")
    return source
