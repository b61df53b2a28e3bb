"""Pretrained text encoders: CLIP and T5 from a local folder, through ``transformers``.

The folder is as ``save_pretrained`` writes it: config.json, safetensors and the tokenizer's files. Nothing is
downloaded, and neither code nor a pickle of the folder is ever loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.files import canonical_json, sha256_bytes, sha256_file
from latentline.core.finite import require_finite
from latentline.latents.tokenizer import PADDING, CaptionTokenizer, without_threads

_PACKAGE = "transformers"
_CONFIG = "config.json"
_KINDS = {"clip": "clip", "clip_text_model": "clip", "t5": "t5"}  # model_type of config.json -> kind
_TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")  # each tokenizer has one of them
DTYPE = torch.float16
"""Of the states, as of cached latents. CLIP and T5 normalise them last, so that they lie far within its range."""


@dataclass(frozen=True)
class EncoderInfo:
    """Identity of a pretrained text encoder, for the checkpoint of the denoiser that trained on its states."""

    kind: str
    """clip | t5."""
    sha256: str
    """Hex digest of config.json and all safetensors files."""
    width: int
    """D of the states."""


class PretrainedTextEncoder:
    """A frozen text encoder in evaluation mode.

    Args:
        path: its folder.
        info: expected identity.
        device: where it computes, in float32: T5 overflows in float16.

    Raises:
        UserError: the package is missing, or the folder holds no such encoder or another one.
    """

    def __init__(self, path: Path, info: EncoderInfo, device: torch.device) -> None:
        if (found := read_info(path)) != info:
            raise UserError(
                f"text.path ({path}: {found.kind} {found.sha256[:12]}) must be the text encoder that the denoiser was "
                f"trained with ({info.kind} {info.sha256[:12]}); set it to that folder, or run `dvc repro`"
            )
        without_threads()
        from transformers import CLIPTextModel, T5EncoderModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = {"clip": CLIPTextModel, "t5": T5EncoderModel}[info.kind]
        try:
            self._model, report = model.from_pretrained(
                path, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise _refused(path, error) from None
        if missing := sorted(report["missing_keys"]):
            raise _refused(path, f"no weights {', '.join(missing[:3])}")
        self._model.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.no_grad()
    def states(self, tokens: Tensor) -> Tensor:
        """Return the states float16 (T, D) of all tokens that are no padding, one caption after another, on the CPU.

        Args:
            tokens: ids (B, L) of :func:`read_pretrained_tokenizer`.

        Raises:
            UserError: a state is not finite.
        """
        mask = tokens != PADDING
        longest = max(1, int(mask.sum(dim=1).max())) if len(tokens) else 1
        ids, mask = (tokens - 1).clamp(min=0)[:, :longest].long(), mask[:, :longest]
        output = self._model(input_ids=ids.to(self._device), attention_mask=mask.long().to(self._device))
        states = output.last_hidden_state[mask.to(self._device)].to(DTYPE).cpu()
        return require_finite(states, "text.path (its states, in float16)", "take another text encoder", "states")


def require_text_encoder(path: Path, length: int) -> None:
    """Refuse what is no encoder with its tokenizer for captions of ``length`` tokens. Reads no weights, so it is quick.

    Raises:
        UserError: the package is missing, or the folder holds no such encoder, or one of fewer positions.
    """
    if find_spec(_PACKAGE) is None:
        raise UserError(
            f"text.encoder (pretrained) needs the package {_PACKAGE}; "
            "`.venv/bin/pip install -e '.[text]'`, or set it to transformer"
        )
    config = _config(path)
    if not any(path.glob("*.safetensors")):
        raise _refused(path, "no .safetensors file")
    if not any((path / name).exists() for name in _TOKENIZERS):
        raise _refused(path, "no tokenizer.json")
    most = config.get("max_position_embeddings", length)  # T5 has relative positions, without an end
    if length > most:
        raise UserError(f"text.length ({length}) must be at most {most} for the encoder in text.path; lower it")


def read_info(path: Path) -> EncoderInfo:
    """Return the identity of the encoder in ``path``; reads all its weights once, for the sha256.

    Raises:
        UserError: the package is missing, or the folder holds no CLIP or T5 in safetensors.
    """
    require_text_encoder(path, 1)
    config = _config(path)
    files = [path / _CONFIG, *sorted(path.glob("*.safetensors"))]
    digest = sha256_bytes(canonical_json({file.name: sha256_file(file) for file in files}).encode())
    return EncoderInfo(_KINDS[config["model_type"]], digest, config["width"])


def read_pretrained_tokenizer(path: Path, length: int) -> CaptionTokenizer:
    """Return the tokenizer in ``path``, for captions of ``length`` tokens with its special ones.

    Raises:
        UserError: the folder holds no tokenizer, or one that the library ``tokenizers`` cannot express.
    """
    without_threads()
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    except Exception as error:  # the library has no type of its own for files that are damaged or of another kind
        raise _refused(path, error) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return CaptionTokenizer(tokenizer.to_str(), length)


def _config(path: Path) -> dict[str, Any]:
    """Return config.json of the text model, with the ``model_type`` of the whole and the ``width`` of the states."""
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        kind = _KINDS[config["model_type"]]
        config |= config.get("text_config") or {}  # of a whole CLIP
        return {**config, "model_type": kind, "width": int(config["d_model" if kind == "t5" else "hidden_size"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path, f"config.json: {error!r}") from None


def _refused(path: Path, reason: object) -> UserError:
    return UserError(
        f"text.path ({path}: {' '.join(str(reason).split())[:120]}) must be a folder of a CLIP or T5 text model with "
        "config.json, .safetensors and tokenizer files; correct it"
    )
