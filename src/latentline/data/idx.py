"""The IDX format of MNIST and its family (big-endian header, then raw bytes).

Header: two zero bytes, a type code (0x08 = unsigned byte), the number of dimensions, then each dimension as uint32
(Y. LeCun, C. Cortes, C. Burges: THE MNIST DATABASE, section "FILE FORMATS FOR THE MNIST DATABASE").
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from latentline.common.errors import UserError


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """An unsigned-byte IDX file as an array of its own shape. Raises UserError when the bytes do not fit the format."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise UserError(f"{name}: not an IDX file of unsigned bytes; fetch it again")
    dimensions = content[3]
    offset = 4 + 4 * dimensions
    if len(content) < offset:
        raise UserError(f"{name}: IDX header ends early; fetch it again")
    shape = struct.unpack(f">{dimensions}I", content[4:offset])
    if len(content) - offset != math.prod(shape):
        raise UserError(f"{name}: IDX header promises {math.prod(shape)} bytes, file has {len(content) - offset}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)
