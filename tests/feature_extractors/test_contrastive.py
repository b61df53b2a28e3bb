"""The contrastive loss is the symmetric cross-entropy of torch, and captions missing or equal are no negatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.feature_extractors.contrastive import ContrastivePair, caption_groups, contrastive_loss

SCALE = torch.tensor(14.0)


def _vectors(count: int) -> tuple[Tensor, Tensor]:
    images, captions = torch.randn(2, count, 8, generator=torch.Generator().manual_seed(1))
    return F.normalize(images, dim=1), F.normalize(captions, dim=1)


def test_with_different_captions_it_is_the_loss_of_clip():
    images, captions = _vectors(5)
    logits, targets = SCALE * images @ captions.T, torch.arange(5)
    expected = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2  # figure 3 of the paper
    torch.testing.assert_close(contrastive_loss(images, captions, SCALE, torch.tensor([7, 0, 3, 1, 2])), expected)


def test_equal_captions_share_the_target_and_those_missing_take_no_part():
    images, captions = _vectors(6)
    groups = torch.tensor([4, -1, 2, 4, -1, 4])
    present = groups >= 0
    targets = torch.tensor([[1 / 3, 0, 1 / 3, 1 / 3], [0, 1, 0, 0], [1 / 3, 0, 1 / 3, 1 / 3], [1 / 3, 0, 1 / 3, 1 / 3]])
    logits = SCALE * images[present] @ captions[present].T
    expected = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    torch.testing.assert_close(contrastive_loss(images, captions, SCALE, groups), expected)


def test_a_batch_without_captions_has_no_loss_and_finite_gradients():
    images, captions = (part.requires_grad_() for part in _vectors(3))
    loss = contrastive_loss(images, captions, SCALE, torch.full((3,), -1))
    loss.backward()
    assert loss == 0
    assert not images.grad.any()
    assert not captions.grad.any()


def test_rows_of_equal_tokens_are_one_group_and_empty_ones_none():
    groups = caption_groups(torch.tensor([[3, 1], [0, 0], [2, 0], [3, 1], [0, 0]], dtype=torch.int32))
    assert groups[0] == groups[3] != groups[2]
    assert groups[[1, 4]].tolist() == [-1, -1]


def test_the_pair_gives_unit_vectors_reads_no_padding_and_clamps_its_scale():
    torch.manual_seed(0)
    pair = ContrastivePair(features=5, num_ids=9, length=4, width=8, depth=1, heads=2)
    tokens = torch.tensor([[3, 2, 0, 0], [1, 0, 0, 0]], dtype=torch.int32)
    images, captions, scale = pair(torch.randn(2, 5), tokens)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(captions.norm(dim=1), torch.ones(2))
    assert scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        pair.text.embedding.weight[0] = 100.0  # of padding
        pair.log_scale.fill_(math.log(1000))
    torch.testing.assert_close(pair.embed_captions(tokens), captions)
    assert pair(torch.randn(2, 5), tokens)[2].item() == pytest.approx(100)
