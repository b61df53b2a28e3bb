"""The line that refuses a value states what is allowed in words, and values that would be."""

import pytest

from support.params import set_params
from support.refusals import refusal

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        (
            "autoencoder.epochs",
            -1,
            "autoencoder.epochs (-1) must be an integer of at least 0; correct it, or take the default, 2",
        ),
        (
            "denoiser.epochs",
            10**10,
            "denoiser.epochs (10000000000) must be an integer from 0 to 1000000000; correct it",
        ),
        ("compute.threads", True, "compute.threads (true) must be an integer from 1 to 1024; correct it"),
        (
            "denoiser.channels",
            [64, 12],
            "denoiser.channels.1 (12) must be an integer from 8 to 65536 and divisible by 8; ",
        ),
        (
            "denoiser.channels",
            [],
            "denoiser.channels ([]) must be a list of 1 to 16 entries, each an integer from 8 to 65536 ",
        ),
        ("denoiser.label_dropout", 1.0, "denoiser.label_dropout (1.0) must be a number of at least 0 and below 1; "),
        ("denoiser.optimizer.lr", INF, "denoiser.optimizer.lr (inf) must be a number above 0 and finite; correct it"),
        ("denoiser.optimizer.gamma", 0.0, "denoiser.optimizer.gamma (0.0) must be a number above 0 and at most 1; "),
        (
            "data.splits.val",
            None,
            "data.splits.val (null) must be a number above 0 and below 0.5; correct it, or take ",
        ),
        (
            "data.limit",
            "9",
            "data.limit ('9') must be an integer of at least 1 or null; correct it, or take the default, null",
        ),
        (
            "data.image_size",
            [8],
            "data.image_size ([8]) must be an integer from 1 to 16384 or a list of 2 entries, each an ",
        ),
        (
            "data.path",
            "",
            "data.path ('') must be text that is not empty; correct it, or take the default, data/source",
        ),
        (
            "data.horizontal_flip",
            1,
            "data.horizontal_flip (1) must be true or false; correct it, or take the default, false",
        ),
        ("latents.scaling", "fixed", "latents.scaling ('fixed') must be per_channel or a number above 0; correct it"),
        (
            "denoiser.name",
            "",
            "denoiser.name ('') must be one of unet, dit, mlp; correct it, or take the default, unet",
        ),
        (
            "denoiser.process",
            3,
            "denoiser.process (3) must be a section with settings; write them as in recipes/default.yaml",
        ),
        (
            "manipulate.strengths",
            [NAN, 0.0],
            "manipulate.strengths.0 (nan) must be a number that is finite; correct it",
        ),
    ],
)
def test_a_bad_value_is_answered_with_the_bounds_in_words(content, setting, value, expected):
    set_params(content, {setting: value})
    assert refusal(content).startswith(f"params.yaml: {expected}")


@pytest.mark.parametrize(
    ("width", "heads", "remedy"),
    [(96, 5, "set heads to 4 or 6"), (256, 3, "set heads to 2 or 4"), (8, 9, "set heads to 8")],
)
def test_a_width_that_its_heads_do_not_divide_is_refused_with_heads_that_do(content, width, heads, remedy):
    set_params(content, {"denoiser.name": "dit", "denoiser.width": width, "denoiser.heads": heads})
    expected = f"divisible by denoiser.heads ({heads})"
    assert refusal(content) == f"params.yaml: denoiser.width ({width}) must be {expected}; {remedy}"
