"""Tokens of the captions, and their states where a pretrained text encoder reads them."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from latentline.latents.pretrained_text import (
    PretrainedTextEncoder,
    read_info,
    read_pretrained_tokenizer,
    require_text_encoder,
)
from latentline.latents.tokens import Pretrained
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from stages.encode_and_cache_latents.text_params import TextParams

STAGE = "encode_and_cache_latents"
_BATCH = 64  # captions; the last digits of the states depend on it


class EncodedCaptions:
    """The pretrained text encoder of section ``text``, and the saved state of its work.

    Args:
        params: with ``encoder`` pretrained.
        captions: sha256 of the captions of each split.
        device: where the encoder computes.
        save_every: seconds between two saves.

    Raises:
        UserError: the package is missing, or ``text.path`` holds no encoder with its tokenizer.
    """

    def __init__(self, params: TextParams, captions: dict[str, str], device: torch.device, save_every: float) -> None:
        self._path, self._device, self._save_every = Path(params.path), device, save_every
        require_text_encoder(self._path, params.length)
        info = read_info(self._path)
        tokenizer = read_pretrained_tokenizer(self._path, params.length)
        self.pretrained = Pretrained(tokenizer, info, self._states)
        inputs = {"encoder": asdict(info), "tokenizer": tokenizer.sha256, "captions": captions}
        identity = {"settings": {"length": params.length}, "inputs": inputs}
        self._file = ResumeFile(STAGE, identity, [f"stages.{STAGE}.captions"], part="captions")

    def finish(self) -> None:
        """Delete the saved state, once the stage has written its outs."""
        self._file.finish()

    def _states(self, captions: Tensor) -> Iterator[Tensor]:
        """Yield the states (T, D) of the tokens of ``captions`` (M, L); a chunk is those of one batch."""
        encoder = PretrainedTextEncoder(self._path, self.pretrained.info, self._device)
        batches = captions.split(_BATCH) if len(captions) else ()
        with resumable_map(self._file, self._save_every) as chunks:
            for chunk in chunks.map(len(batches), lambda number: {"states": encoder.states(batches[number])}):
                yield chunk["states"]
