"""Recall counts images whose own caption is nearest, among the same candidates for every set."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.feature_extractors import retrieval
from latentline.feature_extractors.retrieval import (
    SHUFFLED,
    candidate_indices,
    caption_ranks,
    caption_retrieval,
    distinct_captions,
)

WORDS = torch.tensor([[3, 1], [2, 0], [3, 2], [5, 5], [1, 0], [4, 4], [6, 1]], dtype=torch.int32)


class Compass:
    """A pair that places images by the angle that is their feature, and captions by their ids."""

    def embed_images(self, features: Tensor) -> Tensor:
        angles = features[:, 0]
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    def embed_captions(self, tokens: Tensor) -> Tensor:
        return self.embed_images(_angles(tokens))


def _angles(tokens: Tensor) -> Tensor:
    """Return a feature (N, 1) for each caption, at which it is the nearest."""
    return (10 * tokens[:, :1] + tokens[:, 1:]).float() / 20


def test_images_at_their_captions_have_recall_1_and_permuted_captions_have_chance():
    tokens = WORDS.repeat(100, 1)
    opposite = _angles(WORDS) + math.pi
    found = caption_retrieval(
        Compass(), {"right": _angles(tokens), "wrong": opposite}, {"right": tokens, "wrong": WORDS}, seed=0
    )
    assert found["candidates"] == 7
    assert found["images"] == {"right": 700, "wrong": 7, SHUFFLED: 700}
    assert (found["recall_at_1"]["right"], found["recall_at_5"]["right"]) == (1.0, 1.0)
    assert found["recall_at_1"]["wrong"] < 0.2
    assert found["recall_at_1"][SHUFFLED] == pytest.approx(1 / 7, abs=0.05)
    assert found["recall_at_5"][SHUFFLED] == pytest.approx(5 / 7, abs=0.06)
    assert "not_computed" not in found


def test_images_without_captions_take_no_part_and_too_few_candidates_give_no_score():
    tokens = torch.cat([WORDS[:2], torch.zeros(3, 2, dtype=torch.int32)])
    none = torch.zeros(2, 2, dtype=torch.int32)
    found = caption_retrieval(
        Compass(), {"some": _angles(tokens), "none": _angles(none)}, {"some": tokens, "none": none}, seed=0
    )
    assert found["candidates"] == 2
    assert found["images"] == {"some": 2, "none": 0, SHUFFLED: 2}
    assert found["recall_at_1"]["some"] == 1
    assert found["recall_at_1"]["none"] is found["recall_at_5"]["some"] is None
    assert found["not_computed"] == {
        "recall_at_1.none": "no image has a caption",
        "recall_at_5": "needs more than 5 distinct captions, not 2",
    }


def test_of_many_captions_a_seeded_choice_is_the_same_for_every_set(monkeypatch):
    monkeypatch.setattr(retrieval, "MAX_CANDIDATES", 3)
    sets = {"all": WORDS, "first": WORDS[:4]}
    features = {name: _angles(tokens) for name, tokens in sets.items()}
    found, again, other = (caption_retrieval(Compass(), features, sets, seed) for seed in (0, 0, 2))
    assert found == again != other
    assert found["candidates"] == found["images"]["all"] == 3
    assert found["images"]["first"] <= 3


def test_a_tie_counts_against_the_image():
    images = torch.ones(2, 3)
    assert caption_ranks(images, torch.ones(4, 3), torch.tensor([0, 2])).tolist() == [3, 3]


def test_ranks_do_not_depend_on_the_batch(monkeypatch):
    images, captions = (F.normalize(torch.randn(count, 4), dim=1) for count in (9, 5))
    targets = torch.arange(9) % 5
    cosines = images @ captions.T
    expected = [int((row > row[own]).sum()) for row, own in zip(cosines, targets, strict=True)]
    assert caption_ranks(images, captions, targets).tolist() == expected
    monkeypatch.setattr(retrieval, "_BATCH", 2)
    assert caption_ranks(images, captions, targets).tolist() == expected


def test_candidates_are_found_by_their_tokens():
    candidates = distinct_captions(torch.cat([WORDS, WORDS[:3], torch.zeros(1, 2, dtype=torch.int32)]))
    assert len(candidates) == len(WORDS)
    assert torch.equal(candidates[candidate_indices(WORDS, candidates)], WORDS)
    strange = torch.tensor([[9, 9], [0, 0]], dtype=torch.int32)
    assert candidate_indices(strange, candidates).tolist() == [-1, -1]
