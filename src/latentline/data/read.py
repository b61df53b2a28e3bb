"""Name -> source."""

from collections.abc import Callable

from latentline.data.source import Request, Source
from latentline.data.sources.array import read_array
from latentline.data.sources.celeba import read_celeba
from latentline.data.sources.cifar import read_cifar10, read_cifar100
from latentline.data.sources.digits import read_digits
from latentline.data.sources.dtd import read_dtd
from latentline.data.sources.folder import read_folder
from latentline.data.sources.huggingface import read_huggingface
from latentline.data.sources.imagenet import read_imagenet
from latentline.data.sources.medmnist import read_medmnist
from latentline.data.sources.mnist import read_emnist, read_fashion_mnist, read_mnist
from latentline.data.sources.places365 import read_places365
from latentline.data.sources.svhn import read_svhn
from latentline.data.sources.tinyimagenet import read_tinyimagenet

_READERS: dict[str, Callable[[Request], Source]] = {
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


def read_source(request: Request) -> Source:
    """Find and check the files of data set ``request.name`` (``data.name``). Raises UserError when they cannot be had."""
    return _READERS[request.name](request)
