"""The gzipped IDX format of MNIST and its family: a big-endian header, then raw bytes.

Header: two zero bytes, a type code (0x08 = unsigned byte), the number of dimensions, then each dimension as uint32
(Y. LeCun, C. Cortes, C. Burges: THE MNIST DATABASE, section "FILE FORMATS FOR THE MNIST DATABASE").
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from stages.download.archives import copy_at_most, require_disk


def read_idx(path: Path, dimensions: int, scratch: Path) -> NDArray[np.uint8]:
    """Return a gzipped unsigned-byte IDX file as a read-only array, memory-mapped from ``scratch``.

    Args:
        path: ends in ``.gz``.
        dimensions: required number of dimensions.
        scratch: folder for the unpacked bytes.

    Raises:
        UserError: the bytes do not fit the format, or the disk.
    """
    raw = scratch / path.with_suffix(".raw").name
    try:
        with gzip.open(path, "rb") as packed:
            start = packed.read(4)
            if start != bytes([0, 0, 8, dimensions]):
                raise UserError(f"{path} must be an IDX file of bytes in {dimensions} dimensions; fetch it again")
            sizes = packed.read(4 * dimensions)
            if len(sizes) < 4 * dimensions:
                raise UserError(f"{path} (cut short) must have a whole IDX header; fetch it again")
            shape = struct.unpack(f">{dimensions}I", sizes)
            require_disk(path, math.prod(shape), scratch)
            with raw.open("wb") as file:
                copy_at_most(packed, file, math.prod(shape), path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} ({error}) must be a gzip file; fetch it again") from None
    if raw.stat().st_size != math.prod(shape) or not math.prod(shape):
        raise UserError(
            f"{path} ({raw.stat().st_size} bytes) must have {math.prod(shape)} bytes as in its header; fetch it again"
        )
    return np.memmap(raw, np.uint8, mode="r", shape=shape)
