"""A run on generated pictures with captions: squares and bars of three colours."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from support.small_kinds import SmallRun

COLOURS = {"red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220)}
SHAPES = {"square": (slice(3, 13), slice(3, 13)), "bar": (slice(6, 10), slice(1, 15))}
CAPTIONS = [f"A {colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)]
CAPTIONED = {
    "data.max_missing_captions": 0.5,
    "autoencoder.name": "identity",
    "denoiser.attention_levels": [1],
    "denoiser.text.width": 16,
    "denoiser.text.depth": 1,
    "denoiser.text.heads": 2,
    "feature_extractor.captions.width": 16,
    "feature_extractor.captions.depth": 1,
    "feature_extractor.captions.heads": 2,
    "text.vocabulary_size": 280,
    "text.length": 4,
    "denoiser.preview.every_epochs": 2,
    "sample.count": 12,
    "sample.moment_samples": 0,
    "sample.batch_size": 5,
}
COUNT = 48


def captioned_run(folder: Path, write_params: Callable[[Path, dict[str, object]], None], **params: object) -> SmallRun:
    """Draw pictures into ``folder``/pictures, each with its caption in a file beside it, and return a run on them.

    Every eighth picture has no caption.
    """
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    for number in range(COUNT):
        caption = CAPTIONS[number % len(CAPTIONS)]
        _, colour, shape = caption.split()
        image = random.integers(0, 20, (16, 16, 3))
        image[SHAPES[shape]] = COLOURS[colour]
        Image.fromarray(image.astype(np.uint8)).save(folder / "pictures" / f"{number:02}.png")
        if number % 8:
            (folder / "pictures" / f"{number:02}.txt").write_text(caption)
    (folder / "labels.csv").write_text("\n")
    (folder / "data" / "edit").mkdir(parents=True)
    (folder / "data" / "no_prompts.txt").touch()
    return SmallRun(folder, [], {**CAPTIONED, **params}, write_params)
