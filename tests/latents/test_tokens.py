"""Tokens on disk are those of the captions, in their order, and belong to their tokenizer."""

import logging

import pytest
import torch

from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.paths import LATENT_TEXT
from latentline.latents.tokens import read_tokenizer, read_tokens, tokens_digest, write_tokens

CAPTIONS = {"train": ["a red square", "", "a blue circle"], "val": ["red"], "test": ["blue blue blue blue", ""]}


def test_what_is_written_is_read_and_the_same_bytes_come_again(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        tokenizer = write_tokens(tmp_path, CAPTIONS, 300, 3)
    assert tokenizer is not None
    assert read_tokenizer(tmp_path) == tokenizer
    for name, captions in CAPTIONS.items():
        assert torch.equal(read_tokens(name, tokenizer, tmp_path), tokenizer.encode(captions))
    _, meta = load_arrays(tmp_path / LATENT_TEXT / "tokens-test.safetensors", "")
    assert {name: meta[name] for name in ("count", "empty", "cut", "longest")} == {
        "count": 2,
        "empty": 1,
        "cut": 1,
        "longest": 4 * len(tokenizer.ids(["blue"])[0]),
    }
    assert any("1 of 2 captions of test are longer and were cut" in message for message in caplog.messages)
    before = {path.name: path.read_bytes() for path in (tmp_path / LATENT_TEXT).iterdir()}
    digest = tokens_digest(tmp_path)
    write_tokens(tmp_path, CAPTIONS, 300, 3)
    assert {path.name: path.read_bytes() for path in (tmp_path / LATENT_TEXT).iterdir()} == before
    assert tokens_digest(tmp_path) == digest
    write_tokens(tmp_path, {**CAPTIONS, "val": ["blue"]}, 300, 3)
    assert tokens_digest(tmp_path) != digest


def test_without_captions_the_folder_holds_a_note_alone(tmp_path):
    write_tokens(tmp_path, CAPTIONS, 300, 3)
    assert write_tokens(tmp_path, None, 300, 3) is None
    assert [path.name for path in (tmp_path / LATENT_TEXT).iterdir()] == ["off.json"]
    assert read_tokenizer(tmp_path) is None


def test_tokens_of_another_tokenizer_are_refused(tmp_path):
    write_tokens(tmp_path, CAPTIONS, 300, 3)
    other = write_tokens(tmp_path / "other", CAPTIONS, 300, 4)
    assert other is not None
    with pytest.raises(UserError, match=r"^.*tokens-val.safetensors \(of another tokenizer\) must be .*; run `dvc "):
        read_tokens("val", other, tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokens-train.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    write_tokens(tmp_path, CAPTIONS, 300, 3)
    (tmp_path / LATENT_TEXT / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing; run `dvc repro encode_and_cache_latents`"):
        read_tokenizer(tmp_path)
