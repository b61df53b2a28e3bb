"""Images are found by name or content; every other file has a kind."""

import os

import numpy as np
import pytest

from latentline.data.decode import FORMATS
from latentline.data.image_files import LITTER, SUFFIXES, in_words, is_litter, kind_left_out
from support.source_files import encoded, flat

COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_found_by_its_content(tmp_path, form):
    path = tmp_path / "photo"
    path.write_bytes(encoded(flat(7, (16, 16)), form))
    assert kind_left_out(path) is None


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jfif", "a.tif", "a.TIFF", "a.pgm", "a.webp"])
def test_a_usual_name_is_enough(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert kind_left_out(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", b"BMW and more", ".txt"),
        ("BMW", b"BMW and more", "without suffix"),
        ("P5", b"P5 is a format", "without suffix"),
        ("a.HEIC", b"\0\0\0\x18ftypheic", ".heic"),
        ("a.nef", encoded(COLOUR, "TIFF"), ".nef"),
        ("a.zip", b"PK", ".zip"),
        ("empty", b"", "without suffix"),
    ],
)
def test_other_files_have_a_kind(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert kind_left_out(tmp_path / name) == kind


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert kind_left_out(tmp_path / "pipe") == "without suffix"


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "._a.png", "Thumbs.db", "@eaDir", "__MACOSX", "desktop.ini", "#recycle", "SYNOPHOTO_THUMB_M.jpg"],
)
def test_litter_is_recognised(tmp_path, name):
    assert is_litter(name)
    assert kind_left_out(tmp_path / name) == LITTER


@pytest.mark.parametrize("name", ["thumbs", "Thumbs.db.png", "macosx", "@home", "recycle.png", "lost"])
def test_names_that_users_give_are_no_litter(name):
    assert not is_litter(name)


def test_counts_read_well():
    assert in_words({".txt": 1, LITTER: 3, ".pdf": 1}) == "3 hidden or of the system, 1 of .pdf, 1 of .txt"
    assert in_words({f".{number}": 10 - number for number in range(7)}).endswith("6 of .4, 9 of other kinds")
    assert ".tif" in SUFFIXES
