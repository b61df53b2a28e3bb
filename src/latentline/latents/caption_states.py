"""States of captions from a pretrained text encoder: cached on disk, and found by the captions' tokens.

encoded_img/text/captions.safetensors          tokens int32 (M, L) of all different captions of all splits
encoded_img/text/states-00000.safetensors...   states float16 (T, D) of their tokens without padding, one caption after
                                               another, in the order of captions.safetensors
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import refusing_earlier_versions, require_sha256
from latentline.core.load_params import PARAMS_FILE, read_params
from latentline.core.paths import LATENT_TEXT
from latentline.core.shards import ShardedArray, read_rows, write_rows
from latentline.latents.pretrained_text import DTYPE, EncoderInfo, PretrainedTextEncoder
from latentline.latents.tokenizer import PADDING

MADE_BY = "encode_and_cache_latents"
_KIND = "caption states"
_CAPTIONS, _SERIES = "captions.safetensors", "states"


def different_captions(tokens: Iterable[Tensor]) -> Tensor:
    """Return each different caption once, (M, L), without the empty one; short ones first, so that batches pad little.

    Args:
        tokens: of the captions of each split, (N, L).
    """
    distinct = torch.unique(torch.cat(list(tokens)), dim=0)
    lengths = (distinct != PADDING).sum(dim=1)
    return distinct[lengths.argsort(stable=True)][int((lengths == 0).sum()) :]


def write_states(folder: Path, info: EncoderInfo, captions: Tensor, batches: Iterable[Tensor]) -> None:
    """Write the states of ``captions`` (M, L), from :func:`different_captions`.

    Args:
        folder: exists.
        info: of the encoder.
        captions: their tokens.
        batches: states (T, D) of their tokens without padding, in order, in any portions.
    """
    rows = write_rows(folder, _SERIES, ({"states": states} for states in batches), {"kind": _KIND})
    meta = {"kind": _KIND, "encoder": asdict(info), **rows}
    save_arrays(folder / _CAPTIONS, {"tokens": captions}, meta)


def states_digests(root: Path) -> dict[str, str]:
    """Return the sha256 of each shard of states below ``root``, and of their encoder; empty = there are none."""
    if not (path := root / LATENT_TEXT / _CAPTIONS).exists():
        return {}
    _, meta = load_arrays(path, MADE_BY, kind=_KIND)
    with refusing_earlier_versions(path, MADE_BY):
        return {"encoder": meta["encoder"]["sha256"], **meta["shards"]}


def read_states(root: Path, device: torch.device) -> "CaptionStates | None":
    """Return the states in ``root``/encoded_img; None = the captions there have no pretrained encoder.

    Args:
        root: folder of the run.
        device: where the encoder computes the states of other captions.
    """
    if not (path := root / LATENT_TEXT / _CAPTIONS).exists():
        return None
    _, meta = load_arrays(path, MADE_BY, kind=_KIND)
    with refusing_earlier_versions(path, MADE_BY):
        return CaptionStates(EncoderInfo(**meta["encoder"]), root, device)


class CaptionStates:
    """Map the tokens of captions to the states of a pretrained encoder.

    Captions of the images have theirs in encoded_img. Others are encoded once, by the encoder in ``text.path`` of the
    run's params.yaml. Its place shapes no result, because ``info`` says which encoder it must be.

    Args:
        info: of the encoder.
        root: folder of the run.
        device: where the encoder computes.
    """

    def __init__(self, info: EncoderInfo, root: Path, device: torch.device) -> None:
        self.info = info
        self._root, self._device = root, device
        self._computed: dict[bytes, Tensor] = {}  # (n, D) of a caption of n tokens

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return float16 (B, L, D) of tokens (B, L), both on the CPU; zeros for padding.

        Raises:
            UserError: a file is missing or damaged, or text.path has another encoder.
        """
        states, mask = self.padding(*tokens.shape), tokens != PADDING
        numbers = torch.tensor([self._numbers.get(key, -1) for key in _keys(tokens)], dtype=torch.int64)
        cached = numbers >= 0
        if cached.any():
            starts = [self._starts[number : number + 2] for number in numbers[cached].tolist()]
            states[mask & cached[:, None]] = self._rows[torch.cat([torch.arange(*rows) for rows in starts])]
        others = mask.any(dim=1) & ~cached
        if others.any():
            states[mask & others[:, None]] = torch.cat(self._encoded(tokens[others]))
        return states

    def padding(self, count: int, length: int) -> Tensor:
        """Return the states (``count``, L, D) of empty captions."""
        return torch.zeros(count, length, self.info.width, dtype=DTYPE)

    def _encoded(self, tokens: Tensor) -> list[Tensor]:
        """Return the states (n, D) of each caption (B, L), and encode those that were not encoded before."""
        rows = dict(zip(keys := _keys(tokens), tokens, strict=True))
        if new := rows.keys() - self._computed.keys():
            batch = torch.stack([rows[key] for key in sorted(new)])
            lengths = (batch != PADDING).sum(dim=1).tolist()
            self._computed |= dict(zip(sorted(new), self._encoder.states(batch).split(lengths), strict=True))
        return [self._computed[key] for key in keys]

    @cached_property
    def _encoder(self) -> PretrainedTextEncoder:
        params = self._root / PARAMS_FILE
        path = read_params(params).get("text", {}).get("path")
        if path is None:
            raise UserError(f"text.path (missing in {params}) must be the folder of the text encoder; set it")
        return PretrainedTextEncoder(self._root / path, self.info, self._device)

    @cached_property
    def _cache(self) -> tuple[Tensor, list[Path]]:
        """Tokens (M, L) of the cached captions, and the shards of their states; none of another encoder."""
        folder = self._root / LATENT_TEXT
        if not (path := folder / _CAPTIONS).exists():
            return torch.empty(0, 1, dtype=torch.int32), []
        arrays, meta = load_arrays(path, MADE_BY, kind=_KIND)
        with refusing_earlier_versions(path, MADE_BY):
            if EncoderInfo(**meta["encoder"]) != self.info:
                return torch.empty(0, 1, dtype=torch.int32), []
            for name, digest in meta["shards"].items():
                require_sha256(folder / name, digest, path, MADE_BY)
            return arrays["tokens"].clone(), [folder / name for name in meta["shards"]]

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {key: number for number, key in enumerate(_keys(self._cache[0]))}

    @cached_property
    def _starts(self) -> list[int]:
        """First row of each cached caption, and one more: the number of rows."""
        lengths = (self._cache[0] != PADDING).sum(dim=1)
        return [0, *lengths.cumsum(0).tolist()]

    @cached_property
    def _rows(self) -> ShardedArray:
        return read_rows(self._cache[1], "states", MADE_BY, verify=False)[0]


def _keys(tokens: Tensor) -> Sequence[bytes]:
    """Return the bytes of each caption's ids (B, L), without padding."""
    lengths = (tokens != PADDING).sum(dim=1).tolist()
    return [row[:length].tobytes() for row, length in zip(tokens.to(torch.int32).numpy(), lengths, strict=True)]
