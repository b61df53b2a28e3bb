"""Figures of edits whose codec decodes from noise: a diffusion autoencoder with random weights."""

import pytest
import torch
from PIL import Image

from latentline.autoencoders.load import TrainedCodec
from latentline.core.attributes import CLASS, Column
from latentline.editing.targets import Target
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import Choice, Pictures
from stages.manipulate.report import draw_mixtures
from support.small_diffae import small_diffae

CLASSES = ("cat", "dog")
TARGETS = [Target(0, Column(CLASS, "categorical", CLASSES), kind) for kind in range(2)]
CELL = 2 * (8 + 2)  # pixels of an image and its gap, twice as large


@pytest.fixture
def editor(awake) -> Editor:
    stats = LatentStats((4,), CLASSES, (), "ab", Normalizer(torch.randn(4), torch.rand(4) + 0.5))
    return Editor(TrainedCodec(awake(small_diffae(20)).eval(), torch.device("cpu"), "ab", (1, 8, 8)), stats, None)


def _pictures(editor: Editor, count: int) -> Pictures:
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8)
    values = (torch.arange(count) % 3 == 0).float()[:, None]
    raw = editor.stats.normalizer.restore(torch.randn(count, 4))
    return Choice(images, values, raw).pictures(torch.arange(count), editor.codec, editor.stats)


def test_an_image_decodes_from_its_own_noise_to_itself(editor):
    pictures = _pictures(editor, 3)
    again = editor.decode(pictures.z0, pictures.noise).int() - pictures.images.int()
    foreign = editor.decode(pictures.z0, None).int() - pictures.images.int()
    assert again.abs().float().mean() < foreign.abs().float().mean() / 5


def test_every_mixture_is_drawn_with_as_many_rows_and_columns_as_it_has(editor, tmp_path):
    draw_mixtures(tmp_path, TARGETS, _pictures(editor, 12), editor, 0)
    cells = {"interpolations": (9, 10), "perturbations": (6, 5), "arithmetic": (4, 2)}  # columns, rows
    cells |= {"style_mixing": (3, 5), "conditioned_samples": (5, 2), "perturbed_redrawn": (5, 10)}
    assert {path.stem for path in tmp_path.iterdir()} == cells.keys()
    for name, (columns, rows) in cells.items():
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (columns * CELL + 4, rows * CELL + 4), name


def test_one_image_is_enough_but_for_arithmetic(editor, tmp_path):
    draw_mixtures(tmp_path, TARGETS, _pictures(editor, 1), editor, 0)
    assert len(list(tmp_path.iterdir())) == 5
