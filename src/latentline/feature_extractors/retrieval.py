"""Retrieval of captions by images: how often an image's own caption is the nearest of all candidates."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latentline.core.seeds import generator
from latentline.feature_extractors.contrastive import NO_CAPTION, CaptionModel, caption_groups

MAX_CANDIDATES = 1000
SHUFFLED = "shuffled_captions"
"""Row of the first set with its captions permuted: chance."""
_LARGEST_RANK = {"recall_at_1": 1, "recall_at_5": 5}
_STREAM = "caption retrieval"
_BATCH = 4096  # images at a time


def caption_retrieval(
    model: CaptionModel, features: Mapping[str, Tensor], tokens: Mapping[str, Tensor], seed: int
) -> dict[str, Any]:
    """Return recall at 1 and at 5 (R@1, R@5) of each set of images, and of the first set with permuted captions.

    The candidates are the distinct captions of all sets, the same for each. Of more than 1000 they are a seeded choice.
    An image without a caption, or with one that is no candidate, takes no part.

    Args:
        model: the trained pair.
        features: (N, D) of each set by its name.
        tokens: of the captions, integers (N, L), of each set.
        seed: of the choice of candidates, and of the permutation.

    Returns:
        ``candidates``; ``images``, ``recall_at_1`` and ``recall_at_5`` by set. A recall is None for a set without
        images, or with so few candidates that it is 1 by necessity; ``not_computed`` has the reason.
    """
    candidates = distinct_captions(torch.cat(list(tokens.values())))
    if len(candidates) > MAX_CANDIDATES:
        chosen = torch.randperm(len(candidates), generator=generator(seed, _STREAM, "candidates"))
        candidates = candidates[chosen[:MAX_CANDIDATES]]
    first = next(iter(features))
    indices = {name: candidate_indices(rows, candidates) for name, rows in tokens.items()}
    own = indices[first][indices[first] >= 0]
    shuffled = indices[first].clone()
    shuffled[shuffled >= 0] = own[torch.randperm(len(own), generator=generator(seed, _STREAM, "shuffled"))]
    metrics: dict[str, Any] = {"candidates": len(candidates), "images": {}, **{name: {} for name in _LARGEST_RANK}}
    captions = model.embed_captions(candidates)
    vectors = {name: model.embed_images(rows) for name, rows in features.items()}
    vectors, indices = {**vectors, SHUFFLED: vectors[first]}, {**indices, SHUFFLED: shuffled}
    reasons: dict[str, str] = {}
    for name, targets in indices.items():
        taking_part = targets >= 0
        metrics["images"][name] = int(taking_part.sum())
        ranks = caption_ranks(vectors[name][taking_part], captions, targets[taking_part])
        for score, largest in _LARGEST_RANK.items():
            enough = len(candidates) > largest
            metrics[score][name] = float((ranks < largest).float().mean()) if enough and len(ranks) else None
            if not enough:
                reasons[score] = f"needs more than {largest} distinct captions, not {len(candidates)}"
            elif not len(ranks):
                reasons[f"{score}.{name}"] = "no image has a caption"
    return {**metrics, "not_computed": reasons} if reasons else metrics


def distinct_captions(tokens: Tensor) -> Tensor:
    """Return the distinct rows (K, L) of tokens (N, L) in ascending order, without that of an empty caption."""
    return tokens[caption_groups(tokens) != NO_CAPTION].unique(dim=0)


def candidate_indices(tokens: Tensor, candidates: Tensor) -> Tensor:
    """Return which row of ``candidates`` (K, L), all distinct, each row of tokens (N, L) is: int64 (N,); -1 = none."""
    groups = torch.cat([candidates, tokens]).unique(dim=0, return_inverse=True)[1]
    of_group = torch.full((len(groups),), -1)
    of_group[groups[: len(candidates)]] = torch.arange(len(candidates))
    return of_group[groups[len(candidates) :]]


def caption_ranks(images: Tensor, captions: Tensor, targets: Tensor) -> Tensor:
    """Return how many other captions are at least as near to each image as its own: int64 (N,); 0 = the nearest.

    Args:
        images: unit vectors (N, E).
        captions: unit vectors (K, E).
        targets: index of each image's own caption (N,).
    """
    ranks = [torch.empty(0, dtype=torch.int64)]
    for part, own in zip(images.split(_BATCH), targets.split(_BATCH), strict=True):
        cosines = part @ captions.T  # (B, K)
        ranks.append((cosines >= cosines.gather(1, own[:, None])).sum(dim=1) - 1)
    return torch.cat(ranks)
