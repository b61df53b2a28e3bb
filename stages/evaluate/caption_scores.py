"""Agreement of the samples with the captions that they are conditioned on."""

import logging
from typing import Any

from torch import Tensor

from latentline.core.paths import GENERATED, PREPARED
from latentline.data.captions import read_captions
from latentline.data.samples import read_prompts
from latentline.feature_extractors.load import FeatureExtractor
from latentline.feature_extractors.retrieval import caption_retrieval

log = logging.getLogger(__name__)


def caption_scores(extractor: FeatureExtractor, features: dict[str, Tensor], seed: int) -> dict[str, Any]:
    """Return ``caption_retrieval``: how often an image's own caption is the nearest; nothing where samples have none.

    Rows are the samples with their prompts, the references ``real_test`` and ``reconstructions`` with the captions of
    the test images, and the samples with permuted prompts.

    Args:
        extractor: with a pair of images and captions, unless it has learnt from no captions.
        features: (N, D) of each set by its name, see ``features.image_sets``.
        seed: of the candidates, where captions are many, and of the permutation.

    Raises:
        UserError: a file of captions is missing or damaged.
    """
    captions = read_captions(PREPARED, "test")
    if captions is None:
        return {}
    prompts = read_prompts(GENERATED)
    if prompts is None:
        log.info("no caption_retrieval: the denoiser is not conditioned on captions")
        return {}
    if extractor.captions is None:
        log.info("no caption_retrieval: the feature extractor had fewer than two different captions to learn from")
        return {}
    tokens = extractor.captions.tokens(captions)
    samples = extractor.captions.tokens(prompts)
    count = len(features["samples"])
    rows = {
        "samples": samples.repeat(-(-count // len(samples)), 1)[:count],  # sample i has prompt i modulo their number
        "real_test": tokens[: len(features["real_test"])],
        "reconstructions": tokens[: len(features["reconstructions"])],
    }
    scores = caption_retrieval(extractor.captions, {name: features[name] for name in rows}, rows, seed)
    return {"caption_retrieval": scores}
