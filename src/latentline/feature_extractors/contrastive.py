"""Contrastive pair of images and captions: both become unit vectors, near where the caption is the image's own.

CLIP (Radford et al., arXiv 2103.00020, figure 3), on the features of a feature extractor.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.latents.tokenizer import PADDING, CaptionTokenizer
from latentline.nn.text_encoder import TextEncoder

_TEMPERATURE = 0.07  # before training; section 2.5 of the paper, as the next one
_LARGEST_SCALE = 100.0  # of the cosines
_BATCH = 500  # captions or features at a time
NO_CAPTION = -1
"""Group of an image without a caption; see :func:`caption_groups`."""


class ContrastivePair(nn.Module):
    """Project image features and captions to the same unit sphere.

    Args:
        features: D, length of a feature vector.
        num_ids: number of different token ids.
        length: L, tokens of a caption.
        width: E, channels of the text transformer and length of the unit vectors.
        depth: blocks of the text transformer.
        heads: attention heads of each block.
    """

    def __init__(self, features: int, num_ids: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.text = TextEncoder(num_ids, length, width, depth, heads)
        self.image_projection = nn.Linear(features, width, bias=False)
        self.text_projection = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    def embed_images(self, features: Tensor) -> Tensor:
        """Features (B, D) -> float32 unit vectors (B, E)."""
        return F.normalize(self.image_projection(features).float(), dim=1)

    def embed_captions(self, tokens: Tensor) -> Tensor:
        """Token ids, integers (B, L) -> float32 unit vectors (B, E), from the state of the null token."""
        states, _ = self.text(tokens, tokens != PADDING)
        return F.normalize(self.text_projection(states[:, 0]).float(), dim=1)

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit vectors (B, E) of features (B, D) and of tokens (B, L), and the scale of their cosines."""
        scale = self.log_scale.clamp(max=math.log(_LARGEST_SCALE)).exp()
        return self.embed_images(features), self.embed_captions(tokens), scale


def caption_groups(tokens: Tensor) -> Tensor:
    """Return a number for each row of tokens (N, L), the same for equal rows: int64 (N,); -1 = no caption."""
    groups = tokens.unique(dim=0, return_inverse=True)[1]
    return groups.masked_fill(~(tokens != PADDING).any(dim=1), NO_CAPTION)


def contrastive_loss(images: Tensor, captions: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of a batch: images among captions, captions among images (InfoNCE).

    Images of equal captions are positives of each other: the target is uniform over them (Khosla et al.,
    arXiv 2004.11362, eq. 2). An image without a caption is in neither sum.

    Args:
        images: unit vectors (B, E).
        captions: unit vectors (B, E).
        scale: 1 / temperature.
        groups: of :func:`caption_groups`, (B,).

    Returns:
        The mean over images with a caption; 0 where there are none.
    """
    present = groups != NO_CAPTION  # (B,)
    targets = ((groups[:, None] == groups) & present).float()  # (B, B), symmetric
    targets = targets / targets.sum(dim=1, keepdim=True).clamp(min=1)  # rows of equal captions are equal, so symmetric
    with torch.autocast(images.device.type, enabled=False):  # cosines close to 1 need all digits
        logits = scale.float() * (images @ captions.T)
    least = torch.finfo(logits.dtype).min
    by_image = logits.masked_fill(~present, least).log_softmax(dim=1)
    by_caption = logits.T.masked_fill(~present, least).log_softmax(dim=1)
    losses = -(targets * by_image + targets * by_caption).sum(dim=1) / 2  # (B,)
    return (losses * present).sum() / present.sum().clamp(min=1)


@dataclass(frozen=True)
class CaptionModel:
    """A trained pair on its device, and the tokenizer of its captions."""

    pair: ContrastivePair
    tokenizer: CaptionTokenizer
    device: torch.device

    def tokens(self, captions: list[str]) -> Tensor:
        """Return int32 (N, L) of N captions; longer ones are cut."""
        return self.tokenizer.padded(self.tokenizer.ids(captions))

    @torch.no_grad()
    def embed_images(self, features: Tensor) -> Tensor:
        """Return the unit vectors (N, E) of features (N, D), on the CPU."""
        return torch.cat([self.pair.embed_images(part.to(self.device)).cpu() for part in features.split(_BATCH)])

    @torch.no_grad()
    def embed_captions(self, tokens: Tensor) -> Tensor:
        """Return the unit vectors (N, E) of tokens (N, L), on the CPU."""
        return torch.cat([self.pair.embed_captions(part.to(self.device)).cpu() for part in tokens.split(_BATCH)])
