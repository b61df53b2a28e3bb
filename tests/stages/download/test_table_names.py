"""File names in a CSV that cannot be used are refused with the name to write."""

import pytest

from latentline.core.errors import UserError
from support.source_files import fill_folder, read


def test_an_absolute_name_inside_the_folder_is_refused_with_the_name_to_write(tmp_path):
    folder = fill_folder(tmp_path / "x", ["a.png", "sub/c.png"])
    (tmp_path / "labels.csv").write_text(f"file,label\n{folder}/sub/c.png,cat\n")
    with pytest.raises(UserError, match=r"must be a file inside data\.path, relative to it; write 'sub/c\.png'$"):
        read("image_folder", tmp_path, path=folder, labels=tmp_path / "labels.csv")
