"""Images to start from, hostile uploads, the map, and incomplete runs."""

import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from latentline.core.errors import UserError
from latentline.explorer import compare as compare_module
from latentline.explorer.compare import HERE, compare, revisions
from latentline.explorer.editing import EditRequest, edit
from latentline.explorer.latent_map import around, latent_map
from latentline.explorer.map_page import map_html
from latentline.explorer.pictures import animation, grid
from latentline.explorer.sampling import SampleRequest, draw
from latentline.explorer.session import open_session
from latentline.explorer.start_images import MAX_BYTES, decoded, from_file, from_sample, from_test, named
from support.source_files import encoded

CPU = torch.device("cpu")


def _bomb() -> bytes:
    """Return a PNG of 60000 x 60000 pixels that is a hundred bytes long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF8", b"<svg onload=alert(1)>", b"\x00" * 1000, b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, _bomb()],
    ids=["empty", "cut", "svg", "zeros", "damaged", "bomb"],
)
def test_hostile_files_end_in_one_line(session, content):
    with pytest.raises(UserError, match="must be a readable image") as raised:
        from_file(session, content)
    assert "\n" not in str(raised.value)


def test_a_huge_file_is_refused_unread(session):
    with pytest.raises(UserError, match="at most 20 MB"):
        from_file(session, b"\x00" * (MAX_BYTES + 1))


def test_any_picture_is_cropped_resized_and_labelled(session):
    frames = [Image.new("RGB", (31, 20), colour) for colour in ("red", "blue")]
    for content in (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), encoded(frames[0], "TIFF")):
        source = from_file(session, content)
        assert source.image.shape == (1, *session.model.image_shape)
        assert source.image[0, :, 8, 8].tolist() == [255, 0, 0]  # of the first frame
        assert not source.labels.values.isnan().any()


def test_a_sample_is_the_one_of_its_number(session):
    drawn = draw(session, SampleRequest.of_run(session, count=4))
    source = from_sample(session, 3)
    assert torch.equal(source.image[0], drawn.images[3])
    assert torch.allclose(source.z0[0], drawn.z0[3], atol=1e-5)


@pytest.mark.parametrize("number", [-1, 10**12, 0.5])
def test_other_numbers_are_refused(session, number):
    for pick in (from_test, from_sample):
        with pytest.raises(UserError, match="must be"):
            pick(session, number)


def test_the_middle_of_the_surroundings_of_a_point_is_its_image(session):
    gallery = session.gallery()
    found = latent_map(session, "PCA")
    assert found.points.shape == (len(gallery.images), 2)
    x, y = found.points[5].tolist()
    images = around(session, "PCA", x, y)
    assert (images[12].int() - decoded(session, gallery.z0[5:6])[0].int()).abs().max() <= 1
    assert not torch.equal(images[0], images[12])
    with pytest.raises(UserError):
        around(session, "PCA", float("nan"), 0)
    with pytest.raises(UserError):
        latent_map(session, "UMAP")


def test_on_a_map_without_inverse_the_nearest_images_are_decoded(session):
    x, y = latent_map(session, "t-SNE").points[2].tolist()
    images = around(session, "t-SNE", x, y)
    middle = images[len(images) // 2]
    assert (middle.int() - decoded(session, session.gallery().z0[2:3])[0].int()).abs().max() <= 1


def test_the_map_has_a_point_and_a_name_for_each_image(session):
    found, gallery = latent_map(session, "PCA"), session.gallery()
    for attribute in (None, *session.schema):
        page = map_html(found, gallery, attribute)
        assert page.count("data-i=") == len(gallery.images)
        assert "http" not in page
    assert "<script" not in map_html(found, gallery, None)


def test_pictures_have_three_channels_and_animations_go_forth_and_back(tmp_path):
    images = torch.randint(0, 255, (6, 1, 8, 8), dtype=torch.uint8)
    pixels = grid(images, 3, rows=("a", "b"), heads=("1", "2", "3"))
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8
    with Image.open(animation(tmp_path / "loop.gif", images)) as loop:
        assert loop.n_frames == 2 * 6 - 2


def test_the_autoencoder_alone_reconstructs_and_mixes(session, tmp_path, monkeypatch):
    for name in ("checkpoints/autoencoder", "data/prepared"):
        shutil.copytree(name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    alone = open_session(CPU)
    assert not alone.has_denoiser
    assert len(alone.notes) == 2
    result = edit(alone, from_test(alone, 1), EditRequest(mix=0.5), from_test(alone, 2))
    assert result.images.shape[0] == 4
    assert named(alone, result.images) == [""] * 4
    assert latent_map(alone, "PCA").points.shape[1] == 2


def test_weights_without_data_start_from_samples(session, tmp_path, monkeypatch):
    for name in ("checkpoints", "encoded_img"):
        shutil.copytree(name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    shipped = open_session(CPU)
    assert shipped.test is None
    assert shipped.gallery().are_samples
    with pytest.raises(UserError, match="data/prepared is missing"):
        from_test(shipped, 0)


def test_an_empty_folder_is_refused_with_the_remedy(workplace):
    with pytest.raises(UserError, match="make weights"):
        open_session(CPU)


def test_two_revisions_show_the_same_seeds_and_what_differs(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    session = open_session(CPU)
    assert revisions()[0] == HERE
    found = compare(session, (HERE, "HEAD"))
    left, right = found.images
    assert left is not None
    assert right is not None
    assert torch.equal(left, right)
    assert found.settings == []
    assert found.scores
    assert all(first == second for _, first, second in found.scores)
    for bad in ("HEAD~1", "--upload-pack=x", "no such revision", ""):  # the first is from before the run
        with pytest.raises(UserError):
            compare(session, (HERE, bad))


def test_without_the_networks_of_a_revision_the_pictures_in_git_are_shown(finished, monkeypatch):
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.chdir(finished.folder)
    monkeypatch.setattr("dvc.api.DVCFileSystem", absent)
    compare_module._session.cache_clear()
    found = compare(open_session(CPU), (HERE, "HEAD"))
    assert found.images[1] is None
    assert all(picture and picture.startswith(b"\x89PNG") for picture in found.pictures)
