"""Tiny random CLIP and T5 text models with tokenizers of a few words, as ``save_pretrained`` writes them."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)
from transformers.utils import logging

from support.captioned import CAPTIONS

WIDTH = 16
POSITIONS = 12  # of the CLIP


def write_clip(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP text model with byte-level BPE and two special tokens, and return its folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(unk_token=special[1], end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([caption.lower() for caption in CAPTIONS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    clip = CLIPTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    config = CLIPTextConfig(
        vocab_size=len(clip),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return _saved(folder, clip, CLIPTextModel, config, seed)


def write_t5(folder: Path, seed: int = 0) -> Path:
    """Write a T5 encoder with a unigram tokenizer and one special token, and return its folder."""
    words = [f"▁{word}" for caption in CAPTIONS for word in caption.split()]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scores += [(word, -1.0) for word in dict.fromkeys(words)]
    tokenizer = Tokenizer(models.Unigram([*scores, *((letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz")], 2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    config = T5Config(vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return _saved(folder, fast, T5EncoderModel, config, seed)


def _saved(folder: Path, tokenizer, model, config, seed: int) -> Path:
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


WRITERS = {"clip": (write_clip, CLIPTextModel), "t5": (write_t5, T5EncoderModel)}
