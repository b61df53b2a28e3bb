"""Figures of edits without a direction, for an autoencoder with noise: a diffusion autoencoder with random weights."""

import pytest
import torch

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.labels import LabelTable, build_schema
from latentline.editing.targets import all_targets
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import EditBatch, EditPool
from stages.manipulate.mixtures_report import draw_mixtures
from support.pictures import grid_size
from support.small_diffae import small_diffae

SCHEMA = build_schema(("cat", "dog"), ())
TARGETS = all_targets(SCHEMA)
CELL = 2 * (8 + 2)  # pixels of an image and its gap, twice as large


@pytest.fixture
def editor(awake) -> Editor:
    stats = LatentStats((4,), SCHEMA, "ab", Normalizer(torch.randn(4), torch.rand(4) + 0.5))
    return Editor(TrainedAutoencoder(awake(small_diffae(20)).eval(), torch.device("cpu"), "ab", (1, 8, 8)), stats, None)


def _batch(editor: Editor, count: int) -> EditBatch:
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8)
    values = (torch.arange(count) % 3 == 0).float()[:, None]
    raw = editor.stats.normalizer.restore(torch.randn(count, 4))
    pool = EditPool(images, LabelTable(SCHEMA, values), raw)
    return pool.batch(torch.arange(count), editor.autoencoder, editor.stats)


def test_an_image_decodes_from_its_own_noise_to_itself(editor):
    batch = _batch(editor, 3)
    again = editor.decode(batch.z0, batch.noise).int() - batch.images.int()
    foreign = editor.decode(batch.z0, None).int() - batch.images.int()
    assert again.abs().float().mean() < foreign.abs().float().mean() / 5


def test_every_figure_of_mixtures_has_its_rows_and_columns(editor, tmp_path):
    draw_mixtures(tmp_path, TARGETS, _batch(editor, 12), editor, 0)
    cells = {"interpolations": (9, 10), "perturbations": (6, 5), "arithmetic": (4, 2)}  # columns, rows
    cells |= {"style_mixing": (3, 5), "conditioned_samples": (5, 2), "perturbed_redrawn": (5, 10)}
    assert {path.stem for path in tmp_path.iterdir()} == cells.keys()
    for name, (columns, rows) in cells.items():
        assert grid_size(tmp_path / f"{name}.png") == (columns * CELL + 4, rows * CELL + 4), name


def test_one_image_is_enough_but_for_arithmetic(editor, tmp_path):
    draw_mixtures(tmp_path, TARGETS, _batch(editor, 1), editor, 0)
    assert len(list(tmp_path.iterdir())) == 5
