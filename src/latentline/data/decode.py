"""Decoding of image files: any common format, mode and size to pixels of one shape."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))
"""Formats that are decoded, whatever the file's name; AVIF only where the build of Pillow has it."""
FORMATS_IN_WORDS = " or".join(", ".join({"WEBP": "WebP"}.get(name, name) for name in FORMATS).rsplit(",", 1))
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and "I;16", "I;16B", ...
_NOT_FINITE = "pixels that are not finite numbers"
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lay the image on its side (CIPA DC-008, section 4.6.4)

Shape = tuple[int, int, int]  # (C, H, W)
ValueRange = tuple[float, float]
"""Stored values that become 0 and 255 (``data.value_range``)."""


class UnreadableError(Exception):
    """An image that cannot be used; the message is the reason."""


def header(content: bytes) -> Shape:
    """Return (C, H, W) of the upright image; C = 1 for grey, else 3. Raises UnreadableError.

    Only an image with colours in its palette is decoded for this.
    """
    with _opened(content) as image:
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)  # it may be a text, or any number
        if sideways and image.format != "TIFF":  # Pillow gives the upright size of a TIFF file
            width, height = height, width
        return (1 if _is_grey(image) else 3), height, width


def decode(content: bytes, value_range: ValueRange | None = None) -> Image.Image:
    """Return the first frame, upright, in mode L or RGB, transparency laid on white. Raises UnreadableError.

    Args:
        content: the file.
        value_range: stored values that become 0 and 255; None = black and white of the file's number format.
    """
    with _opened(content) as image:
        levels = _levels(image) if value_range else 1.0
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I") or (upright.mode == "F" and value_range):  # 16 bits: 65535 is white
            return Image.fromarray(stretch(np.asarray(upright), value_range or (0.0, 65535.0)))
        if upright.mode == "F" and not np.isfinite(np.asarray(upright)).all():  # Pillow would make them black
            raise UnreadableError(_NOT_FINITE)
        mode = "L" if _is_grey(upright) else "RGB"
        transparent = upright.has_transparency_data
        colours = upright.convert("RGBA" if transparent else mode)
        if value_range and upright.mode != "1":
            table = stretch(np.arange(256) * levels, value_range).tolist()
            bands = len(colours.getbands()) - transparent
            colours = colours.point(table * bands + list(range(256)) * transparent)
        if transparent:
            return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert(mode)
        return colours


def stretch(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    """Return ``values`` as uint8 such that the range's ends become 0 and 255; values beyond are clipped.

    Raises:
        UnreadableError: a value is NaN or infinite.
    """
    low, high = value_range
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    if not np.isfinite(levels).all():
        raise UnreadableError(_NOT_FINITE)
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def stored_values(content: bytes) -> NDArray[Any]:
    """Return the stored values (H, W), or (H, W, 3) of colours, as the file's number format has them.

    Raises:
        UnreadableError: the file is damaged.
    """
    with _opened(content) as image:
        levels = _levels(image)
        image.load()
        wide = image.mode.startswith("I") or image.mode == "F"
        values = np.asarray(image if wide else image.convert("L" if _is_grey(image) else "RGB"))
        return values if levels == 1 else values * np.uint16(levels)


def _levels(image: Image.Image) -> float:
    """Return how many stored levels make one decoded level: 257 where Pillow shortens 16-bit colours to 8 bits."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    shortened = any(";16" in str(tile[3]) for tile in tiles) and not image.mode.startswith("I")
    return 257.0 if shortened else 1.0


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
    if image.mode not in ("P", "PA"):
        return image.mode in _GREY_MODES or image.mode.startswith("I;")
    colours = np.asarray(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    grey = (colours == colours[:, :1]).all(axis=1)
    return bool(grey.all() or grey[_drawn_entries(image, len(grey))].all())


def _drawn_entries(image: Image.Image, count: int) -> NDArray[np.intp]:
    """Return which of the first ``count`` entries of the palette the image shows: used ones, not wholly transparent."""
    entries = np.asarray(image.getchannel("P") if image.mode == "PA" else image)
    shown = np.bincount(entries.ravel(), minlength=256) > 0
    transparent = image.info.get("transparency")  # one entry, or the opacity of each
    if isinstance(transparent, int):
        shown[transparent] = False
    elif isinstance(transparent, bytes):
        shown[: len(transparent)] &= np.frombuffer(transparent, np.uint8) > 0
    return np.flatnonzero(shown[:count])


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image; raise UnreadableError for every error that a damaged or hostile file causes in Pillow."""
    if not content:
        raise UnreadableError("an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slightly wrong metadata, one line per image
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # above Image.MAX_IMAGE_PIXELS, 89 million
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise UnreadableError(f"not a {FORMATS_IN_WORDS} file") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and more
        raise UnreadableError(" ".join(str(error).split()) or type(error).__name__) from None
