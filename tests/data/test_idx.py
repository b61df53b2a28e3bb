import struct

import numpy as np
import pytest

from latentline.common.errors import UserError
from latentline.data.idx import parse_idx

# As the publisher describes it: http://yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
IMAGES = struct.pack(">4i", 2051, 2, 3, 4) + bytes(range(24))  # magic number, images, rows, columns, then pixels row-wise
LABELS = struct.pack(">2i", 2049, 5) + bytes([7, 2, 1, 0, 4])  # magic number, items, then labels


def test_images_are_read_row_by_row():
    images = parse_idx(IMAGES, "images")
    assert images.dtype == np.uint8
    assert images.shape == (2, 3, 4)
    assert images[1, 2].tolist() == [20, 21, 22, 23]


def test_labels_are_read_in_order():
    assert parse_idx(LABELS, "labels").tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("content", [IMAGES, LABELS])
def test_a_file_cut_short_anywhere_or_too_long_is_refused_by_name(content):
    for length in range(len(content)):
        with pytest.raises(UserError, match="some-file"):
            parse_idx(content[:length], "some-file")
    with pytest.raises(UserError, match="some-file"):
        parse_idx(content + b"\0", "some-file")


@pytest.mark.parametrize("magic", [0, 2051 << 8, 0x00000D03, 0x01000803, 0x00010803])
def test_a_wrong_magic_number_is_refused(magic):
    with pytest.raises(UserError, match="IDX"):
        parse_idx(struct.pack(">I", magic) + IMAGES[4:], "x")
