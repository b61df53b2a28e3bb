"""The images that an action starts from: a test image, a sample, or a user's own file."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import split_logits
from latentline.core.errors import UserError
from latentline.core.inputs import require_integer, require_number
from latentline.core.labels import LabelTable
from latentline.data.decode import FORMATS_IN_WORDS, UnreadableError, decode, fit
from latentline.data.store import to_uint8, to_unit_range
from latentline.explorer.sampling import SampleRequest, draw
from latentline.explorer.session import Session
from latentline.feature_extractors.features import extract_features

MAX_BYTES = 20 << 20
"""Of an uploaded file."""
_LAST = 100_000  # sample


@dataclass(frozen=True)
class StartImage:
    """One image to start from."""

    image: Tensor
    """uint8 (1, C, H, W)."""
    z0: Tensor
    """Standardised (1, *latent_shape)."""
    labels: LabelTable
    """Of one image; NaN where a label is unknown."""
    name: str


@torch.no_grad()
def from_test(session: Session, number: int) -> StartImage:
    """Return test image ``number``, from 0. Raises UserError where there is no such image."""
    if session.test is None:
        raise UserError("data/prepared is missing; run `dvc repro download` for test images, or take a sample")
    require_integer("image", number, 0)
    if number >= len(session.test):
        raise UserError(f"image ({number}) must be from 0 to {len(session.test) - 1}; correct it")
    rows = torch.tensor([number])
    image = session.test.images[rows]
    return StartImage(
        image, session.model.encode(to_unit_range(image)), session.test.labels[rows], f"test image {number}"
    )


@torch.no_grad()
def from_sample(session: Session, number: int) -> StartImage:
    """Return sample ``number``, from 0, as stage ``sample`` draws it."""
    require_integer("image", number, 0)
    require_number("image", number, 0, _LAST)
    drawn = draw(session, SampleRequest.of_run(session, count=1), first=number)
    return StartImage(drawn.images, drawn.z0, drawn.labels, f"sample {number}")


@torch.no_grad()
def from_file(session: Session, content: bytes) -> StartImage:
    """Return the image of an uploaded file, cropped and resized as ``download`` does it.

    Raises:
        UserError: the file is too large, or no image that can be read.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"file ({len(content) >> 20} MB) must be at most {MAX_BYTES >> 20} MB; take a smaller one")
    channels, height, width = session.model.image_shape
    try:
        pixels = fit(decode(content, session.value_range), (channels, height, width))
    except UnreadableError as error:
        reason = str(error)[:100]
        raise UserError(f"file must be a readable image ({reason}); take a {FORMATS_IN_WORDS} file") from None
    image = torch.from_numpy(pixels)[None]
    labels = LabelTable(session.schema, torch.full((1, len(session.schema)), torch.nan))
    if session.extractor is not None and session.extractor.schema == session.schema:
        labels = LabelTable(session.schema, session.extractor.extract(image)[1])
    return StartImage(image, session.model.encode(to_unit_range(image)), labels, "your file")


@torch.no_grad()
def named(session: Session, images: Tensor) -> list[str]:
    """Return what the feature extractor says of uint8 images (N, C, H, W): a class with its probability, or numbers."""
    if session.extractor is None or not session.extractor.schema:
        return [""] * len(images)
    extractor = session.extractor
    features = extract_features(extractor.network, images, extractor.device)
    logits = extractor.network.head(features.to(extractor.device)).cpu()
    first, values = extractor.schema[0], split_logits(extractor.schema, logits)[0]  # the class, where there is one
    if first.classes:
        chances = values.softmax(dim=1).max(dim=1)
        return [
            f"{first.classes[index]} {chance:.0%}"
            for chance, index in zip(chances.values.tolist(), chances.indices.tolist(), strict=True)
        ]
    if first.kind == "binary":
        return [f"{first.name} {chance:.0%}" for chance in values[:, 0].sigmoid().tolist()]
    return [f"{first.name} {number:.3g}" for number in first.predict(values).tolist()]


def decoded(session: Session, z0: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return uint8 images (N, C, H, W), on the CPU, of standardised latents (N, *latent_shape)."""
    with torch.no_grad():
        return to_uint8(session.model.decode(z0.to(session.model.device), noise)).cpu()
