"""Which files of a folder are images: by their name, and without a usual name by their content."""

import re
from pathlib import Path

from latentline.data.decode import FORMATS, UnreadableError, header

_SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
}
SUFFIXES = tuple(suffix for name in FORMATS for suffix in _SUFFIXES[name])
"""Names of images: such a file is never left out, and one that cannot be decoded is unreadable."""
_RAW = (".3fr", ".arw", ".cr2", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".srw")
"""Camera files, which are TIFF files by their content; only a thumbnail of them would be read."""
_TEXT = (".csv", ".htm", ".html", ".json", ".log", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml")
"""Notes and labels. There may be one per image, so they are not opened."""
_SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb"....ftypavi[fs]",
    "BMP": rb"BM",
    "PPM": rb"P[1-6]\s",
}
_WEAK = ("BMP", "PPM")  # texts may begin like these, so their header has to be read
_NAMED = 5  # kinds of files in a message
_BEGINNING = 1 << 16  # bytes that hold such a header
_LITTER = re.compile(
    r"\..*|@eadir|@recycle|@recently-snapshot|@sharebin|@tmp|@syno.*|syno(file|photo|index|video)_.*|#recycle|#snapshot"
    r"|__macosx|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|\$recycle\.bin|recycler"
    r"|system volume information|lost\+found|__pycache__",
    re.IGNORECASE | re.DOTALL,
)
LITTER = "hidden or of the system"
"""Kind of the files that file systems, desktops and network drives add."""


def is_litter(name: str) -> bool:
    """Return True for names that no user gave: hidden ones, thumbnails, recycle bins, indices of desktops."""
    return _LITTER.fullmatch(name) is not None


def kind_left_out(path: Path) -> str | None:
    """Return None for an image; for any other file its kind: ``LITTER``, its suffix, or ``without suffix``."""
    if is_litter(path.name):
        return LITTER
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or (suffix not in _RAW + _TEXT and _is_image(path)):
        return None
    return suffix or "without suffix"


def in_words(counts: dict[str, int]) -> str:
    """Return text such as ``3 of .txt, 1 of .pdf`` for kinds of files and their counts, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{count} of {kind}" if kind.startswith(".") else f"{count} {kind}" for kind, count in ordered]
    more = [f"{sum(count for _, count in ordered[_NAMED:])} of other kinds"] if len(ordered) > _NAMED else []
    return ", ".join(texts[:_NAMED] + more)


def _is_image(path: Path) -> bool:
    """Return True where the content begins as one of the formats that are decoded."""
    if not path.is_file():  # reading a pipe would wait
        return False
    try:
        with path.open("rb") as file:
            content = file.read(_BEGINNING)
        found = [name for name in FORMATS if re.match(_SIGNATURES[name], content, re.DOTALL)]
        if found and found[0] in _WEAK:
            header(content)
    except (OSError, UnreadableError):
        return False
    return bool(found)
