"""Texts of the user's files: UTF-8, or the encoding that a byte-order mark names."""

import codecs
from pathlib import Path

from latentline.core.errors import UserError

_MARKS = (  # the mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_encoding(beginning: bytes) -> str:
    """Return the encoding of a text by its first bytes, for Python; a byte-order mark is no part of the text."""
    return next((encoding for mark, encoding in _MARKS if beginning.startswith(mark)), "utf-8-sig")


def read_text(path: Path, where: str, largest: int) -> str:
    """Return the text of a file; null characters at its end are left out.

    Args:
        path: the file.
        where: names the setting in errors.
        largest: bytes that the file may have.

    Raises:
        UserError: it cannot be read, is larger, or is a text in another encoding.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise UserError(f"{where} ({path}) must have at most {largest} bytes; shorten or move it")
        text = content.decode(text_encoding(content[:4])).rstrip("\0")
    except OSError as error:
        raise UserError(f"{where} ({path}: {error.strerror}) must be a readable file; mend or remove it") from None
    except UnicodeDecodeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} ({path}: {reason}) must be a text in UTF-8; save it as such") from None
    if "\0" in text:
        raise UserError(f"{where} ({path} with null characters) must be a text in UTF-8; save it as such")
    return text
