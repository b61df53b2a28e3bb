"""Decoding of image files: any common format, mode and size to pixels of one shape."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")  # no other decoder is tried, whatever the file's name
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and "I;16", "I;16B", ...
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lay the image on its side (CIPA DC-008, section 4.6.4)

Shape = tuple[int, int, int]  # (C, H, W)


class UnreadableError(Exception):
    """An image that cannot be used; the message is the reason."""


def header(content: bytes) -> Shape:
    """Return (C, H, W) of the upright image without decoding it; C = 1 for grey, else 3. Raises UnreadableError."""
    with _opened(content) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # others, and texts, are no orientation
            width, height = height, width
        return (1 if _is_grey(image) else 3), height, width


def decode(content: bytes) -> Image.Image:
    """Return the first frame, upright, in mode L or RGB, transparency laid on white. Raises UnreadableError."""
    with _opened(content) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits: 65535 is white
            levels = np.asarray(upright).astype(np.float64) / 257
            return Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
        mode = "L" if _is_grey(upright) else "RGB"
        if upright.has_transparency_data:
            colours = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert(mode)
        return upright.convert(mode)


def fit(image: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    """Resize the image to cover ``shape`` and crop the centre; return uint8 (C, H, W).

    The resizing is Pillow's antialiased bicubic one. Other libraries' resizing aliases, which changes distances between
    images (Parmar, Zhang, Zhu: On Aliased Resizing, arXiv 2104.11222).
    """
    channels, height, width = shape
    converted = image.convert("L" if channels == 1 else "RGB")
    if converted.size != (width, height):
        converted = ImageOps.fit(converted, (width, height), method=Image.Resampling.BICUBIC)
    pixels = np.asarray(converted)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        colours = np.asarray(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;")


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image; raise UnreadableError for every error that a damaged or hostile file causes in Pillow."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slightly wrong metadata, one line per image
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # above Image.MAX_IMAGE_PIXELS, 89 million
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise UnreadableError("not a PNG, JPEG, WebP, BMP or GIF file") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
        raise UnreadableError(" ".join(str(error).split()) or type(error).__name__) from None
