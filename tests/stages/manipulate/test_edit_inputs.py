from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.core.errors import UserError
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from stages.manipulate.edit_inputs import chosen_rows, image_files, read_images

STATS = LatentStats((2,), ("cat", "dog"), (), "ab", Normalizer(torch.zeros(2), torch.ones(2)))
VALUES = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])


@dataclass
class Knobs:
    images: list[int] | None = None
    source_class: str | None = None


@pytest.mark.parametrize(
    ("knobs", "rows"),
    [
        (Knobs(), [0, 1, 2, 3, 4]),
        (Knobs(images=[3, 1]), [3, 1]),
        (Knobs(source_class="dog"), [1, 2, 4]),
        (Knobs(images=[3, 4, 1], source_class="dog"), [4, 1]),
        (Knobs(images=[0], source_class="dog"), []),
    ],
)
def test_images_are_chosen_by_number_and_by_class(knobs, rows):
    assert chosen_rows(knobs, STATS, VALUES).tolist() == rows


def test_a_number_beyond_the_images_and_an_unknown_class_are_refused():
    with pytest.raises(UserError, match=r"manipulate\.images: 5 is no image's number; expected 0 to 4; correct it"):
        chosen_rows(Knobs(images=[2, 5]), STATS, VALUES)
    with pytest.raises(UserError, match=r"manipulate\.source_class: 'owl' is unknown; expected one of cat, dog; correct it"):
        chosen_rows(Knobs(source_class="owl"), STATS, VALUES)


def test_the_images_of_a_folder_come_by_name_and_nothing_else_of_it(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", ".gitignore", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in image_files(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(UserError, match=r"manipulate\.files: .*nowhere is not a folder; expected one of images to edit, or data/edit for none"):
        image_files(tmp_path / "nowhere")


def test_files_of_any_mode_and_size_become_images_of_one_shape(tmp_path):
    Image.fromarray(np.full((20, 20), 51, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((5, 9, 3), (0, 0, 255), np.uint8)).save(tmp_path / "blue.png")
    images = read_images([tmp_path / "grey.png", tmp_path / "blue.png"], (3, 8, 8))
    assert images.dtype == torch.uint8
    expected = torch.tensor([[51, 51, 51], [0, 0, 255]], dtype=torch.uint8)
    assert torch.equal(images, expected[:, :, None, None].expand(2, 3, 8, 8))
    assert torch.equal(read_images([tmp_path / "grey.png"], (1, 20, 20)), torch.full((1, 1, 20, 20), 51, dtype=torch.uint8))


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(UserError, match=r"bad\.png: unreadable \(not a PNG, JPEG, WebP, BMP or GIF file\); expected an image; remove it"):
        read_images([tmp_path / "bad.png"], (1, 8, 8))
