"""Random access to a source's images, decoded one at a time, so that no data set has to fit into memory."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentline.data.decode import Shape, UnreadableError, decode, fit, header


@dataclass(frozen=True)
class Facts:
    """What is known of an image before it is decoded."""

    digest: bytes
    """Of the content as the source holds it."""
    shape: Shape


def content_digest(content: bytes) -> bytes:
    """16 bytes that stand for ``content``."""
    return hashlib.blake2b(content, digest_size=16).digest()


class Images(ABC):
    """N images by row. Copied into worker processes, so it holds places, not pixels, wherever decoding takes time."""

    encoded: bool
    """Whether decoding takes so long that worker processes pay."""

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What a person would call image ``row``; the same for the same image when others are added, where there are names."""

    @abstractmethod
    def facts(self, row: int) -> Facts:
        """Digest and shape of image ``row``. Raises UnreadableError."""

    @abstractmethod
    def pixels(self, row: int, shape: Shape) -> NDArray[np.uint8]:
        """Image ``row`` as uint8 (C, H, W) of ``shape``. Raises UnreadableError."""


@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Images of one shape: an array uint8 (N, C, H, W), C = 1 or 3, in memory or memory-mapped."""

    array: NDArray[np.uint8]
    encoded = False

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """``image 17``."""
        return f"image {row}"

    def facts(self, row: int) -> Facts:
        """See :meth:`Images.facts`."""
        channels, height, width = self.array.shape[1:]
        return Facts(content_digest(self.array[row].tobytes()), (channels, height, width))

    def pixels(self, row: int, shape: Shape) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        image = np.ascontiguousarray(self.array[row])  # (C, H, W)
        if image.shape == shape:
            return image
        return fit(Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))), shape)


class EncodedImages(Images):
    """Images as PNG, JPEG and the like, decoded when they are asked for."""

    encoded = True

    @abstractmethod
    def content(self, row: int) -> bytes:
        """The encoded image. Raises OSError or UnreadableError."""

    def facts(self, row: int) -> Facts:
        """See :meth:`Images.facts`."""
        content = self._read(row)
        return Facts(content_digest(content), header(content))

    def pixels(self, row: int, shape: Shape) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        return fit(decode(self._read(row)), shape)

    def _read(self, row: int) -> bytes:
        try:
            return self.content(row)
        except OSError as error:
            raise UnreadableError(error.strerror or str(error)) from None
