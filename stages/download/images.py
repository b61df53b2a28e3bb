"""Images of a source by row, decoded one at a time, so that no data set has to fit into memory."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentline.data.decode import Shape, UnreadableError, ValueRange, decode, fit, header, stored_values, stretch


@dataclass(frozen=True)
class ImageInfo:
    """Digest and shape of an image that is not decoded yet."""

    digest: bytes
    """Of the stored content."""
    shape: Shape


def content_digest(content: bytes) -> bytes:
    """Return a digest of ``content``, 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


class Images(ABC):
    """N images by row.

    The object is copied into worker processes, so it holds paths, not pixels, where decoding is slow.
    """

    encoded: bool
    """True where decoding is slow enough to use worker processes."""

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @abstractmethod
    def name(self, row: int) -> str:
        """Return the name of image ``row`` for people. A file name does not change when others are added."""

    @abstractmethod
    def info(self, row: int) -> ImageInfo:
        """Return digest and shape of image ``row``. Raises UnreadableError."""

    @abstractmethod
    def pixels(self, row: int, shape: Shape, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
        """Return image ``row`` as uint8 (C, H, W) of ``shape``, stretched if ``value_range`` is given.

        Raises UnreadableError.
        """

    @abstractmethod
    def stored_values(self, row: int) -> NDArray[Any]:
        """Return the stored values of image ``row``, in any shape. Raises UnreadableError."""


@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Images of one shape: an array uint8 (N, C, H, W) with C = 1 or 3, in memory or memory-mapped."""

    array: NDArray[np.uint8]
    encoded = False

    def __len__(self) -> int:
        return len(self.array)

    def name(self, row: int) -> str:
        """Return a name such as ``image 17``."""
        return f"image {row}"

    def info(self, row: int) -> ImageInfo:
        """See :meth:`Images.info`."""
        channels, height, width = self.array.shape[1:]
        return ImageInfo(content_digest(self.array[row].tobytes()), (channels, height, width))

    def pixels(self, row: int, shape: Shape, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        image = np.ascontiguousarray(self.array[row])  # (C, H, W)
        if value_range:
            image = stretch(image, value_range)
        if image.shape == shape:
            return image
        channels_last = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        return fit(Image.fromarray(channels_last), shape)

    def stored_values(self, row: int) -> NDArray[np.uint8]:
        """See :meth:`Images.stored_values`."""
        return self.array[row]


class EncodedImages(Images):
    """Images in formats such as PNG and JPEG, decoded when they are used."""

    encoded = True

    @abstractmethod
    def content(self, row: int) -> bytes:
        """Return the encoded image. Raises OSError or UnreadableError."""

    def info(self, row: int) -> ImageInfo:
        """See :meth:`Images.info`."""
        content = self._read(row)
        return ImageInfo(content_digest(content), header(content))

    def pixels(self, row: int, shape: Shape, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        return fit(decode(self._read(row), value_range), shape)

    def stored_values(self, row: int) -> NDArray[Any]:
        """See :meth:`Images.stored_values`."""
        return stored_values(self._read(row))

    def _read(self, row: int) -> bytes:
        try:
            return self.content(row)
        except OSError as error:
            raise UnreadableError(error.strerror or str(error)) from None
