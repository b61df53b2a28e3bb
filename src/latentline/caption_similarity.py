"""Agreement of images with captions, by the run's feature extractor; a method of :class:`latentline.TrainedModel`."""

from typing import TYPE_CHECKING

from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.inputs import image_batch
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.feature_extractors.load import load_feature_extractor

if TYPE_CHECKING:
    from latentline.trained_model import TrainedModel


def caption_similarity(model: "TrainedModel", images: Tensor, captions: str | list[str]) -> Tensor:
    """Return the cosine of every image and every caption, in the space of the run's contrastive pair.

    Every call reads the feature extractor's checkpoint.

    Args:
        model: a run on images with captions.
        images: (B, C, H, W) in [-1, 1].
        captions: K texts, or one.

    Returns:
        (B, K) in [-1, 1]. Gradients flow to the images.

    Raises:
        UserError: the checkpoint is missing or has learnt from no captions, or an argument has another shape or type.
    """
    x = image_batch(images, model.image_shape, model.device)
    texts = [captions] if isinstance(captions, str) else captions
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"captions ({captions!r:.40}) must be a text, or a list of texts; correct it")
    extractor = load_feature_extractor(model.device, model.root)
    if extractor.captions is None:
        raise UserError(
            f"{model.root / FEATURE_EXTRACTOR} (without captions) must be trained on images with captions that differ; "
            "add captions (docs/text.md)"
        )
    of_captions = extractor.captions.embed_captions(extractor.captions.tokens(list(texts)))  # (K, E)
    of_images = extractor.captions.pair.embed_images(extractor.network.features(x))  # (B, E)
    return of_images @ of_captions.to(model.device).T
