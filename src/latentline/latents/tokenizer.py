"""Tokens of captions: text -> token ids, by Hugging Face's ``tokenizers``: byte-level BPE, or a pretrained tokenizer.

For the BPE, captions are normalised to NFC and lower case, and split into words. Words are bytes, merged by the pairs
that are commonest in the training captions (Sennrich et al., arXiv 1508.07909, on bytes as GPT-2 has them). So every
text has ids, and the same captions give the same ids on every machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentline.core.files import sha256_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING = 0
"""Id of padding; that of a token is one more than in tokenizer.json, so that no text has this id."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionTokenizer:
    """A tokenizer that maps each caption to L ids.

    A pretrained one may add special tokens, and the last of them, such as the end of the text, outlives a cut.
    """

    json: str
    """Content of tokenizer.json."""
    length: int
    """L: longer captions are cut, shorter ones end in padding."""

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        without_threads()
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.json)

    @cached_property
    def _special_tokens(self) -> int:
        """Number of the tokens that every caption has besides its own; the last one of a caption is one of them."""
        return self._tokenizer.num_special_tokens_to_add(False)

    @cached_property
    def num_ids(self) -> int:
        """Number of different ids, that of padding included."""
        return self._tokenizer.get_vocab_size() + 1

    @cached_property
    def sha256(self) -> str:
        """Hex digest of tokenizer.json."""
        return sha256_bytes(self.json.encode())

    def ids(self, captions: Sequence[str]) -> list[list[int]]:
        """Return the ids of each caption, uncut and without padding; none for an empty caption."""
        found = [encoded.ids for encoded in self._tokenizer.encode_batch(list(captions))]
        return [[one + 1 for one in ids] if len(ids) > self._special_tokens else [] for ids in found]

    def padded(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Return int32 (N, L) of N lists of ids, cut or padded to L."""
        tokens = torch.full((len(ids), self.length), PADDING, dtype=torch.int32)
        for row, caption in zip(tokens, ids, strict=True):
            cut = list(caption[: self.length])
            if self._special_tokens and cut:
                cut[-1] = caption[-1]
            row[: len(cut)] = torch.tensor(cut, dtype=torch.int32)
        return tokens

    def encode(self, captions: Sequence[str], what: str = "captions") -> Tensor:
        """Return int32 (N, L) of N captions; the log has a warning where one is cut, which calls them ``what``."""
        ids = self.ids(captions)
        if cut := sum(len(caption) > self.length for caption in ids):
            log.warning(
                "%d of %d %s are longer than text.length (%d tokens) and are cut", cut, len(ids), what, self.length
            )
        return self.padded(ids)

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the normalised captions of tokens (N, L)."""
        rows = [[one - 1 for one in row if one != PADDING] for row in tokens.tolist()]
        texts = [self._tokenizer.decode(row) for row in rows]
        if end := getattr(self._tokenizer.model, "end_of_word_suffix", None):  # of CLIP
            texts = [text.replace(end, " ").strip() for text in texts]
        return [text.removeprefix(" ") for text in texts]


def train_tokenizer(captions: Iterable[str], vocabulary_size: int, length: int) -> CaptionTokenizer:
    """Return the tokenizer of the training captions.

    Args:
        captions: of the training images; empty ones do not count.
        vocabulary_size: upper limit of its tokens, at least 256, the bytes.
        length: L, tokens of a caption.
    """
    without_threads()
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    return CaptionTokenizer(tokenizer.to_str(), length)


def without_threads() -> None:
    """Keep the library `tokenizers` from starting threads: after them it warns in every process that is forked."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
