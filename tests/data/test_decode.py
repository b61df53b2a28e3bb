"""Every common image format, mode and size becomes pixels of one shape, and every bad file a reason."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from latentline.data.decode import FORMATS, UnreadableError, decode, fit, header, stored_values
from support.source_files import encoded, flat

random = np.random.default_rng(0)
COLOUR = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def _pixels(content: bytes) -> np.ndarray:
    """In its own shape (C, H, W), which the header must have promised."""
    return fit(decode(content), header(content))


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("PPM", {}),
    ],
)
def test_lossless_formats_keep_every_pixel(form, settings):
    assert np.array_equal(_pixels(encoded(COLOUR, form, **settings)), COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_grey_images_have_one_channel(form):
    assert np.array_equal(_pixels(encoded(GREY, form)), GREY[None])


def test_jpeg_is_read_in_grey_colour_and_cmyk():
    for channels in (1, 3):
        assert np.abs(_pixels(encoded(flat(77, channels=channels), "JPEG")).astype(int) - 77).max() <= 1
    cmyk = _pixels(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"))
    assert cmyk.shape == (3, 4, 4)
    assert np.abs(cmyk[:, 0, 0].astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form):
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    content = encoded(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    assert _pixels(content)[:, 0, 0].tolist() == [255, 0, 0]


def test_transparency_is_laid_on_white():
    half = np.dstack([np.zeros((2, 2, 3), np.uint8), np.array([[0, 255], [51, 255]], np.uint8)])
    assert _pixels(encoded(half))[:, :, 0].tolist() == [[255, 204]] * 3
    assert _pixels(encoded(half))[0, :, 1].tolist() == [0, 0]
    grey = np.dstack([np.zeros((1, 1), np.uint8), np.full((1, 1), 51, np.uint8)])
    assert _pixels(encoded(Image.fromarray(grey, "LA"))).tolist() == [[[204]]]


@pytest.mark.parametrize(
    ("kind", "value"), [(3, struct.pack("<Hxx", 0)), (3, struct.pack("<Hxx", 9)), (2, b"6\0\0\0"), (2, b"top\0")]
)
def test_what_is_no_orientation_turns_nothing(kind, value):
    """An EXIF block of one entry: a 16-bit number (type 3) or a text (type 2)."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, 1 if kind == 3 else 4) + value + bytes(4)
    for form, settings in (("PNG", {}), ("WEBP", {"lossless": True})):
        content = encoded(GREY, form, exif=exif, **settings)
        assert header(content)[1:] == GREY.shape
        assert np.array_equal(_pixels(content)[0], GREY)


def test_a_palette_of_greys_is_grey():
    for form in ("PNG", "GIF", "BMP"):
        content = encoded(Image.fromarray(GREY).convert("P"), form)
        assert np.array_equal(_pixels(content), GREY[None]), form
    transparent = encoded(Image.fromarray(GREY).convert("P"), transparency=int(GREY[0, 0]))
    assert header(transparent) == (1, *GREY.shape)
    assert _pixels(transparent)[0, 0, 0] == 255
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 40, 50, 60])
    image.putdata([0, 1])
    assert header(encoded(image))[0] == 3


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_colours_of_a_palette_that_no_pixel_shows_are_no_colour(form):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 10, 10, 40, 40, 40, 255, 0, 255])
    image.putdata([0, 1, 1])
    assert header(encoded(image, form)) == (1, 1, 3)
    assert _pixels(encoded(image, form)).tolist() == [[[10, 40, 40]]]
    image.putdata([0, 1, 2])
    assert header(encoded(image, form)) == (3, 1, 3)
    for transparency in {"PNG": [2, bytes([255, 255, 0])], "GIF": [2]}.get(form, []):
        assert _pixels(encoded(image, form, transparency=transparency)).tolist() == [[[10, 40, 255]]]


def test_palettes_are_looked_up_and_their_transparent_colour_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert _pixels(encoded(image))[:, 0].tolist() == [[10, 40], [20, 50], [30, 60]]
    for form in ("PNG", "GIF"):
        assert _pixels(encoded(image, form, transparency=1))[:, 0].tolist() == [[10, 255], [20, 255], [30, 255]]
    assert _pixels(encoded(image, transparency=bytes([255, 0])))[:, 0].tolist() == [[10, 255], [20, 255], [30, 255]]


def test_a_short_palette_of_greys_is_grey():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 40, 40, 40])
    image.putdata([0, 1])
    assert _pixels(encoded(image)).tolist() == [[[10, 40]]]
    assert _pixels(encoded(image, transparency=1)).tolist() == [[[10, 255]]]


@pytest.mark.parametrize("entry", [(2, 2, b"6\0"), (3, 1, b"\0\x09"), (3, 1, b"\0\0"), (3, 1, b"\xff\xff")])
def test_an_orientation_that_means_nothing_turns_nothing(entry):
    """TIFF 6.0, section 2: an entry is a tag, a type (2 = text, 3 = short), a count and a value."""
    kind, count, value = entry
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH2HI4sI", 8, 1, 0x0112, kind, count, value, 0)
    assert np.array_equal(_pixels(encoded(GREY, exif=exif)), GREY[None])


def test_one_bit_is_black_and_white():
    assert _pixels(encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))).tolist() == [[[0, 255]]]


def _png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """W3C, Portable Network Graphics specification, section 5: signature, then chunks of length, type, data and CRC."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_scaled_not_cut_off():
    grey = _png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 257 * 100, 65535))
    assert _pixels(grey).tolist() == [[[0, 100, 255]]]
    colour = _png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 257 * 100, 65535))
    assert _pixels(colour).ravel().tolist() == [0, 100, 255]


@pytest.mark.parametrize(
    ("orientation", "turned"), [(1, GREY), (3, GREY[::-1, ::-1]), (6, np.rot90(GREY, -1)), (8, np.rot90(GREY))]
)
def test_exif_orientation_is_undone(orientation, turned):
    """CIPA DC-008 section 4.6.4: 3 = upside down, 6 = rotate by 90 degrees clockwise to view, 8 = counterclockwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("PNG", "TIFF"):
        content = encoded(GREY, form, exif=exif)
        assert header(content) == (1, *turned.shape)
        assert np.array_equal(_pixels(content), turned[None])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        b"GIF89a",
        encoded(COLOUR)[:40],
        encoded(COLOUR)[:-30],
        encoded(COLOUR, "JPEG")[:200],
        encoded(COLOUR, "TGA"),
    ],
)
def test_what_is_no_whole_image_of_a_common_format_is_unreadable(content):
    with pytest.raises(UnreadableError) as caught:
        _pixels(content)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_byte_anywhere_gives_an_image_or_a_reason_but_never_another_error():
    for content in (
        encoded(COLOUR),
        encoded(COLOUR, "JPEG"),
        encoded(COLOUR, "GIF"),
        encoded(COLOUR, "WEBP"),
        encoded(COLOUR, "BMP"),
        encoded(COLOUR, "TIFF"),
        encoded(COLOUR, "TIFF", compression="tiff_lzw"),
        encoded(COLOUR, "PPM"),
    ):
        for place in range(0, len(content), 5):
            damaged = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
            try:
                header(damaged)
                assert decode(damaged).mode in ("L", "RGB")
            except UnreadableError:
                pass


@pytest.mark.parametrize("size", [(30_000, 30_000), (1, 10**9), (10**9, 1), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(size):
    bomb = _png(*size, 8, 0, b"")
    for read in (header, decode):
        with pytest.raises(UnreadableError, match="decompression bomb"):
            read(bomb)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 6, 3), (3, 9, 2), (1, 20, 30)])
def test_any_image_fits_any_shape(shape):
    for content in (encoded(COLOUR), encoded(GREY)):
        assert fit(decode(content), shape).shape == shape


def test_resizing_keeps_proportions_and_crops_the_centre():
    stripes = np.repeat(
        np.array([0] * 4 + [100] * 8 + [255] * 4, np.uint8)[None], 8, axis=0
    )  # (8, 16): dark, grey, bright
    assert fit(Image.fromarray(stripes), (1, 8, 8)).tolist() == [[[100] * 8] * 8]
    assert (
        np.abs(fit(Image.fromarray(stripes.T), (1, 4, 4)).astype(int) - 100).max() <= 10
    )  # the filter looks beyond the crop


def test_shrinking_does_not_alias():
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(fit(Image.fromarray(board), (1, 8, 8)).astype(float) - 127.5).max() < 3


def test_grey_and_colour_turn_into_each_other():
    assert np.array_equal(fit(Image.fromarray(GREY), (3, 5, 7)), np.stack([GREY] * 3))
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(fit(Image.fromarray(COLOUR), (1, 5, 7))[0] - COLOUR @ weights).max() <= 1


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this build of Pillow has no AVIF")
def test_avif_is_read_where_the_build_has_it():
    assert np.abs(_pixels(encoded(flat(77, (16, 16)), "AVIF", quality=100)).astype(int) - 77).max() <= 2


def _stretched(content: bytes, value_range: tuple[float, float] | None) -> list[int]:
    return np.asarray(decode(content, value_range)).ravel().tolist()


def test_a_value_range_stretches_stored_values_and_clips_those_beyond():
    twelve_bits = Image.fromarray(np.array([[0, 2047, 4095, 60000]], np.uint16))
    for form in ("PNG", "TIFF"):
        assert _stretched(encoded(twelve_bits, form), (0, 4095)) == [0, 127, 255, 255]
        assert _stretched(encoded(twelve_bits, form), None) == [0, 8, 16, 233]
    mask = np.array([[0, 1]], np.uint8)
    assert _stretched(encoded(mask), (0, 1)) == [0, 255]
    assert _stretched(encoded(np.stack([mask] * 3, axis=-1)), (0, 2)) == [0] * 3 + [128] * 3
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert _stretched(encoded(unit, "TIFF"), (0, 1)) == [0, 128, 255]
    colour = _png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 257 * 8, 257 * 16))
    assert _stretched(colour, (0, 257 * 16)) == [0, 128, 255]


def test_a_value_range_leaves_transparency_as_it_is():
    half = np.dstack([np.ones((1, 2, 3), np.uint8), np.array([[255, 0]], np.uint8)])
    assert _stretched(encoded(half), (0, 2)) == [128] * 3 + [255] * 3


def test_stored_values_are_in_the_number_format_of_the_file():
    assert stored_values(encoded(Image.fromarray(np.array([[7, 4095]], np.uint16)))).tolist() == [[7, 4095]]
    assert stored_values(encoded(np.array([[0, 1]], np.uint8))).tolist() == [[0, 1]]
    assert stored_values(encoded(Image.fromarray(np.array([[0.25, 1]], np.float32)), "TIFF")).tolist() == [[0.25, 1]]
    colour = stored_values(_png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 257, 514)))
    assert colour.tolist() == [[[0, 257, 514]]]
    assert colour.dtype == np.uint16


def test_pixels_that_are_no_numbers_are_unreadable():
    bad = encoded(Image.fromarray(np.array([[np.nan, 1]], np.float32)), "TIFF")
    for value_range in ((0, 1), None):
        with pytest.raises(UnreadableError, match="not finite"):
            decode(bad, value_range)
