"""Tokens of captions on disk.

encoded_img/text/tokenizer.json                the tokenizer, as Hugging Face's ``tokenizers`` reads it
encoded_img/text/tokens-train.safetensors      tokens int32 (N, L) of the images in their stored order, 0 = padding;
                                               likewise val and test; test has the labels of its images, too
encoded_img/text/captions.safetensors          with a pretrained encoder: its states of the captions, likewise
                                               states-00000... (:mod:`latentline.latents.caption_states`)
encoded_img/text/off.json                      instead of all of them, for images without captions
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import (
    canonical_json,
    refusing_earlier_versions,
    replaced_file,
    replaced_folder,
    require_sha256,
    sha256_bytes,
    write_json,
)
from latentline.core.labels import LabelTable, Schema
from latentline.core.paths import LATENT_TEXT
from latentline.latents.caption_states import different_captions, states_digests, write_states
from latentline.latents.pretrained_text import EncoderInfo
from latentline.latents.tokenizer import CaptionTokenizer, train_tokenizer

MADE_BY = "encode_and_cache_latents"
_KIND = "tokens"
_TOKENIZER = "tokenizer.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A pretrained text encoder, for :func:`write_tokens`."""

    tokenizer: CaptionTokenizer
    info: EncoderInfo
    states: Callable[[Tensor], Iterable[Tensor]]
    """Tokens (M, L) of captions -> the states (T, D) of their tokens without padding, in any portions."""


def write_tokens(
    root: Path,
    captions: Mapping[str, Sequence[str]] | None,
    vocabulary_size: int,
    length: int,
    test_labels: LabelTable | None = None,
    pretrained: Pretrained | None = None,
) -> CaptionTokenizer | None:
    """Train a tokenizer on the captions of ``train``, and write it with the tokens of all splits below ``root``.

    Args:
        root: the repository, or a folder like it.
        captions: of each image, by split; "" = this image has none; None = the images have no captions.
        vocabulary_size: see :func:`latentline.latents.tokenizer.train_tokenizer`.
        length: L, tokens of a caption.
        test_labels: of the test images, which samples of their captions are conditioned on; None = no labels.
        pretrained: the encoder whose tokenizer is taken, and whose states are written too; None = train a tokenizer.
    """
    labels = {} if test_labels is None else {"test": test_labels.arrays()}
    with replaced_folder(root / LATENT_TEXT) as folder:
        if captions is None:
            write_json(folder / "off.json", {"captions": None})
            return None
        tokenizer = pretrained.tokenizer if pretrained else train_tokenizer(captions["train"], vocabulary_size, length)
        with replaced_file(folder / _TOKENIZER) as temporary:
            temporary.write_text(tokenizer.json, encoding="utf-8")
        tokens: dict[str, Tensor] = {}
        for name, texts in captions.items():
            ids = tokenizer.ids(texts)
            lengths = [len(caption) for caption in ids]
            counts = {
                "count": len(ids),
                "empty": lengths.count(0),
                "cut": sum(one > length for one in lengths),
                "longest": max(lengths, default=0),
            }
            log.info("captions of %s, in tokens: %s", name, counts)
            if counts["cut"]:
                message = "text.length (%d): %d of %d captions of %s are longer and were cut; the longest has %d tokens"
                log.warning(message, length, counts["cut"], len(ids), name, counts["longest"])
            meta = {"kind": _KIND, "tokenizer": tokenizer.sha256, "length": length, **counts}
            tokens[name] = tokenizer.padded(ids)
            save_arrays(_tokens_path(folder, name), {"tokens": tokens[name], **labels.get(name, {})}, meta)
        if pretrained:
            different = different_captions(tokens.values())
            write_states(folder, pretrained.info, different, pretrained.states(different))
    return tokenizer


def read_tokenizer(root: Path = Path()) -> CaptionTokenizer | None:
    """Read the tokenizer of the captions below ``root``; None = the images have no captions.

    Raises:
        UserError: a file is missing or damaged.
    """
    folder = root / LATENT_TEXT
    path = folder / _TOKENIZER
    if not (path.exists() or _tokens_path(folder, "train").exists()):
        return None
    _, meta = load_arrays(_tokens_path(folder, "train"), MADE_BY, kind=_KIND)
    with refusing_earlier_versions(_tokens_path(folder, "train"), MADE_BY):
        digest, length = meta["tokenizer"], meta["length"]
    require_sha256(path, digest, _tokens_path(folder, "train"), MADE_BY)
    return CaptionTokenizer(path.read_text(encoding="utf-8"), length)


def read_tokens(name: str, tokenizer: CaptionTokenizer, root: Path = Path()) -> Tensor:
    """Return the tokens int32 (N, L) of split ``name`` (train, val or test).

    Raises:
        UserError: the file is missing or damaged, or another tokenizer than ``tokenizer`` made it.
    """
    with refusing_earlier_versions(_tokens_path(root / LATENT_TEXT, name), MADE_BY):
        return _read(name, tokenizer, root)["tokens"]


def read_test_labels(schema: Schema, tokenizer: CaptionTokenizer, root: Path = Path()) -> LabelTable:
    """Return the labels of the test images. Raises UserError as :func:`read_tokens` does."""
    arrays = _read("test", tokenizer, root)
    with refusing_earlier_versions(_tokens_path(root / LATENT_TEXT, "test"), MADE_BY):
        table = LabelTable.from_arrays(schema, arrays, len(arrays["tokens"]))
        if table.values.shape[1] != len(schema):
            raise KeyError("labels")
    return table


def _read(name: str, tokenizer: CaptionTokenizer, root: Path) -> dict[str, Tensor]:
    path = _tokens_path(root / LATENT_TEXT, name)
    arrays, meta = load_arrays(path, MADE_BY, kind=_KIND)
    if (meta.get("tokenizer"), meta.get("length")) != (tokenizer.sha256, tokenizer.length):
        raise UserError(
            f"{path} (of another tokenizer) must be of the tokenizer that the denoiser was trained with; "
            "run `dvc repro train_denoiser`"
        )
    return arrays


def tokens_digest(root: Path = Path()) -> str:
    """Return a hex sha256 of all tokens below ``root``, and of their states where there are any."""
    names = ("train", "val", "test")
    metas = {name: load_arrays(_tokens_path(root / LATENT_TEXT, name), MADE_BY, kind=_KIND) for name in names}
    content = {name: [meta, sha256_bytes(arrays["tokens"].numpy().tobytes())] for name, (arrays, meta) in metas.items()}
    if states := states_digests(root):
        content["states"] = [states]
    return sha256_bytes(canonical_json(content).encode())


def _tokens_path(folder: Path, name: str) -> Path:
    return folder / f"tokens-{name}.safetensors"
