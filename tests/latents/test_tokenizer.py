"""Captions become the same ids everywhere, and come back as their normal form."""

import logging

import pytest
import torch

from latentline.latents.tokenizer import PADDING, CaptionTokenizer, train_tokenizer

CAPTIONS = ["a red square", "a blue circle", "two red circles on a square", ""] * 3
LENGTH = 12


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 300, LENGTH)


@pytest.mark.parametrize(
    ("caption", "normal"),
    [
        ("a red square", "a red square"),
        ("A RED Square", "a red square"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\U0001f44d \u05e9\u05dc", "\U0001f44d \u05e9\u05dc"),
        ("a, b; c!", "a, b; c!"),
        ("[PAD]", "[pad]"),
        ("<|x|>", "<|x|>"),
        ("nul \x00", "nul \x00"),
        ("", ""),
    ],
)
def test_tokens_come_back_as_the_normal_form_of_the_caption(caption, normal):
    tokenizer = train_tokenizer(CAPTIONS, 300, 40)
    tokens = tokenizer.encode([caption])
    assert (tokens.dtype, tokens.shape) == (torch.int32, (1, 40))
    assert tokenizer.decode(tokens) == [normal]
    assert torch.equal(tokenizer.encode([normal]), tokens)


def test_every_id_is_below_the_number_of_ids_and_only_padding_is_zero(tokenizer):
    everything = tokenizer.encode(["".join(map(chr, range(32, 1000, 7)))[:80], *CAPTIONS])
    assert int(everything.min()) >= 0
    assert int(everything.max()) < tokenizer.num_ids <= 301
    for row in everything.tolist():
        used = sum(one != PADDING for one in row)
        assert row[used:] == [PADDING] * (LENGTH - used)


def test_words_of_the_training_captions_are_single_tokens(tokenizer):
    assert len(tokenizer.ids(["a red square"])[0]) == 3


def test_the_order_of_the_captions_changes_nothing_and_neither_does_training_again(tokenizer):
    assert train_tokenizer(CAPTIONS[::-1], 300, LENGTH).json == tokenizer.json
    assert train_tokenizer(iter(CAPTIONS), 300, LENGTH) == tokenizer


def test_the_ids_are_these_on_every_machine(tokenizer):
    assert tokenizer.encode(["a red square"])[0, :4].tolist() == [258, 269, 271, 0]


def test_a_tokenizer_is_its_json_and_length(tokenizer):
    again = CaptionTokenizer(tokenizer.json, LENGTH)
    assert torch.equal(again.encode(CAPTIONS), tokenizer.encode(CAPTIONS))
    assert again.sha256 == tokenizer.sha256


def test_a_long_caption_is_cut_with_a_warning(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        tokens = tokenizer.encode(["square " * 50, "a red square"], "prompts")
    assert (tokens[0] != PADDING).all()
    assert caplog.messages == ["1 of 2 prompts are longer than text.length (12 tokens) and are cut"]


def test_without_a_single_caption_every_text_still_has_ids():
    tokenizer = train_tokenizer(["", ""], 300, LENGTH)
    assert tokenizer.num_ids == 257
    assert tokenizer.decode(tokenizer.encode(["red"])) == ["red"]
