"""Images to edit: which are selected, how files are read, what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.editing.targets import all_targets
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from stages.manipulate.edit_inputs import EditPool, image_files, read_images, select_batch, select_rows
from support.small_diffae import small_diffae

LABELS = LabelTable(build_schema(("cat", "dog"), ()), torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]]))


@dataclass
class Params:
    images: list[int] | None = None
    source_class: str | None = None


@pytest.mark.parametrize(
    ("params", "rows"),
    [
        (Params(), [0, 1, 2, 3, 4]),
        (Params(images=[3, 1]), [3, 1]),
        (Params(source_class="dog"), [1, 2, 4]),
        (Params(images=[3, 4, 1], source_class="dog"), [4, 1]),
        (Params(images=[0], source_class="dog"), []),
    ],
)
def test_images_are_selected_by_index_and_by_class(params, rows):
    assert select_rows(params, LABELS).tolist() == rows


def test_an_index_beyond_the_images_and_an_unknown_class_are_refused():
    with pytest.raises(UserError, match=r"^manipulate\.images \(5\) must be from 0 to 4; correct the index$"):
        select_rows(Params(images=[2, 5]), LABELS)
    with pytest.raises(UserError, match=r"^manipulate\.source_class \('owl'\) must be one of cat, dog; correct it$"):
        select_rows(Params(source_class="owl"), LABELS)


def test_the_images_of_a_folder_come_by_name_and_other_files_are_left_out(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", ".gitignore", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in image_files(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(
        UserError,
        match=r"^manipulate\.files \(.*nowhere\) must be a folder; "
        r"correct the name, or set data/edit to edit test images$",
    ):
        image_files(tmp_path / "nowhere")


def test_an_image_without_a_usual_name_is_edited_too(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "scan", "TIFF")
    assert [path.name for path in image_files(tmp_path)] == ["scan"]


def test_a_folder_with_nothing_usable_is_refused_and_an_empty_one_is_not(tmp_path):
    (tmp_path / ".gitignore").touch()
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    assert image_files(tmp_path) == []
    (tmp_path / "a.heic").write_bytes(b"x")
    (tmp_path / "album").mkdir()
    with pytest.raises(
        UserError, match=r"^manipulate\.files \(.* with 1 of \.heic, 1 sub-folders\) must hold images .*; put images"
    ):
        image_files(tmp_path)


def test_files_are_stretched_as_the_training_images_were(tmp_path):
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(tmp_path / "a.png")
    assert read_images([tmp_path / "a.png"], (1, 4, 4), (0, 4095)).unique().tolist() == [255]


def test_only_images_that_are_edited_towards_some_target_are_read_and_keep_their_index():
    stats = LatentStats((4,), LABELS.schema, "ab", Normalizer(torch.zeros(4), torch.full((4,), 2.0)))
    autoencoder = TrainedAutoencoder(small_diffae(2).eval(), torch.device("cpu"), "ab", (1, 8, 8))
    pool = EditPool(torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8), LABELS, torch.randn(5, 4))
    cat, dog = all_targets(LABELS.schema)
    batch = select_batch(pool, torch.tensor([4, 3, 2, 1, 0]), [cat, dog], 1, autoencoder, stats)
    assert batch.indices.tolist() == [4, 3]  # the first dog and the first cat
    assert torch.equal(batch.images, pool.images[[4, 3]])
    assert torch.equal(batch.z0, pool.raw[[4, 3]] / 2)
    assert batch.labels.values.tolist() == [[1.0], [0.0]]
    assert batch.noise.shape == (2, 1, 8, 8)
    assert torch.equal(batch.take(torch.tensor([1])).noise, batch.noise[1:])
    batch = select_batch(pool, torch.arange(5), [dog], 10, autoencoder, stats)
    assert batch.indices.tolist() == [0, 3]


def test_files_of_any_mode_and_size_become_images_of_one_shape(tmp_path):
    Image.fromarray(np.full((20, 20), 51, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((5, 9, 3), (0, 0, 255), np.uint8)).save(tmp_path / "blue.png")
    images = read_images([tmp_path / "grey.png", tmp_path / "blue.png"], (3, 8, 8))
    assert images.dtype == torch.uint8
    expected = torch.tensor([[51, 51, 51], [0, 0, 255]], dtype=torch.uint8)
    assert torch.equal(images, expected[:, :, None, None].expand(2, 3, 8, 8))
    assert torch.equal(
        read_images([tmp_path / "grey.png"], (1, 20, 20)), torch.full((1, 1, 20, 20), 51, dtype=torch.uint8)
    )


def test_a_file_that_is_no_image_is_refused_with_its_name(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(
        UserError,
        match=r"^manipulate\.files \(.*bad\.png\) must be a readable image "
        r"\(not a PNG, JPEG, .*file\); remove it from the folder$",
    ):
        read_images([tmp_path / "bad.png"], (1, 8, 8))
