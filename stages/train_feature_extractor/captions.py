"""Tokens of the captions, and the contrastive pair that learns them."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed
from latentline.data.captions import read_captions
from latentline.feature_extractors.contrastive import CaptionModel, ContrastivePair
from latentline.feature_extractors.retrieval import distinct_captions
from latentline.latents.tokenizer import CaptionTokenizer, train_tokenizer
from latentline.runtime.compute import to_device
from stages.train_feature_extractor.params import CaptionParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captions:
    """The captions of all splits, encoded by a tokenizer of the training captions."""

    tokenizer: CaptionTokenizer
    tokens: dict[str, Tensor]  # split -> int32 (N, L)


@dataclass(frozen=True)
class NewPair:
    """A pair on its device before training, with what the checkpoint needs to build it again."""

    constructor: dict[str, Any]
    model: CaptionModel

    def to_json(self) -> dict[str, Any]:
        """Return what the checkpoint stores."""
        return {"constructor": self.constructor, "tokenizer": self.model.tokenizer.json}


def read_tokens(params: CaptionParams) -> Captions | None:
    """Return the tokens of data/prepared; None where there is nothing to learn: fewer than two different captions.

    Raises:
        UserError: a file of captions is missing or damaged.
    """
    splits = {name: read_captions(PREPARED, name) for name in ("train", "val", "test")}
    texts = {name: captions for name, captions in splits.items() if captions is not None}
    if not texts:
        return None
    tokenizer = train_tokenizer(texts["train"], params.vocabulary_size, params.length)
    ids = {name: tokenizer.ids(captions) for name, captions in texts.items()}
    if cut := sum(len(caption) > params.length for captions in ids.values() for caption in captions):
        message = "%d captions are longer than feature_extractor.captions.length (%d tokens) and are cut"
        log.warning(message, cut, params.length)
    tokens = {name: tokenizer.padded(captions) for name, captions in ids.items()}
    if len(distinct_captions(tokens["train"])) < 2:
        log.info("nothing to learn from captions: the training images have fewer than two different ones")
        return None
    return Captions(tokenizer, tokens)


def build_pair(
    params: CaptionParams, tokenizer: CaptionTokenizer, features: int, seed: int, device: torch.device
) -> NewPair:
    """Return new weights of the pair.

    Args:
        params: section ``feature_extractor.captions``.
        tokenizer: of the captions.
        features: D, length of the feature vectors.
        seed: of the weights.
        device: where the pair trains.
    """
    sizes = params.model_dump(include={"length", "width", "depth", "heads"})
    constructor = {"features": features, "num_ids": tokenizer.num_ids, **sizes}
    torch.manual_seed(derive_seed(seed, "train_feature_extractor", "weights of the pair"))
    pair = ContrastivePair(**constructor)
    to_device(pair, device)
    return NewPair(constructor, CaptionModel(pair, tokenizer, device))
