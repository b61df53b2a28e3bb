"""Scores of nearest neighbours equal the package prdc and brute force."""

import pytest
import torch
from prdc import compute_prdc

from stages.evaluate import neighbours
from stages.evaluate.neighbours import nearest, neighbour_scores


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.3), (0.0, 3.0)])
def test_all_four_scores_equal_prdc(k, shift, scale):
    real, fake = torch.randn(70, 6).double(), torch.randn(50, 6).double() * scale + shift
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    scores = neighbour_scores(fake, real, k)
    for name, value in expected.items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-6), name


def test_samples_that_repeat_one_real_image_have_precision_but_little_recall():
    real = torch.randn(100, 4)
    scores = neighbour_scores(real[:1] + 1e-3 * torch.randn(50, 4), real, 3)
    assert scores.precision == 1
    assert scores.recall < 0.05
    assert scores.coverage < 0.2


def test_samples_far_away_score_0():
    scores = neighbour_scores(torch.randn(40, 4) + 100, torch.randn(40, 4), 3)
    assert (scores.precision, scores.recall, scores.density, scores.coverage) == (0, 0, 0, 0)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_nearest_is_what_brute_force_finds_whatever_the_block(block):
    queries, reference = torch.randn(30, 5).double(), torch.randn(90, 5).double()
    distances, indices = nearest(queries, reference, block)
    everything = (queries[:, None] - reference[None]).square().sum(dim=2).sqrt()
    assert torch.equal(indices, everything.argmin(dim=1))
    torch.testing.assert_close(distances, everything.min(dim=1).values)


def test_an_image_of_the_training_set_is_at_distance_0_from_it():
    reference = 3 * torch.randn(50, 128)
    assert nearest(reference[:5], reference)[0].max() < 1e-4


def test_portions_give_the_scores_and_the_nearest_of_all_pairs(monkeypatch):
    real, fake = torch.randn(70, 6).double(), torch.randn(50, 6).double()
    scores, (distances, indices) = neighbour_scores(fake, real, 3), nearest(fake, real)
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 8 * 50 * 7)
    monkeypatch.setattr(neighbours, "_REFERENCE_ROWS", 9)
    assert neighbour_scores(fake, real, 3) == scores
    assert torch.equal(nearest(fake, real, block=8)[1], indices)
    assert torch.equal(nearest(fake, real, block=8)[0], distances)
