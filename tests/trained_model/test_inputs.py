"""What the methods of a finished run take, convert, and refuse in one line."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from latentline import load
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from support.untrained_run import COND_DIM


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            lambda model: model.encode(torch.zeros(2, 1, 9, 9)),
            "images (torch.float32 (2, 1, 9, 9)) must be float in [-1, 1] of shape (B, 1, 8, 8); give them the size ",
        ),
        (
            lambda model: model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
            "images (torch.uint8 (2, 1, 8, 8)) must be float in [-1, 1] of shape (B, 1, 8, 8); convert bytes with ",
        ),
        (
            lambda model: model.decode(torch.zeros(2, 1, 8, 8)),
            "z0 (torch.float32 (2, 1, 8, 8)) must be float and standardised, of shape (B, 2, 4, 4); "
            "take it from model.encode",
        ),
        (
            lambda model: model.add_noise(torch.zeros(2, 1, 8, 8), 1.5),
            "t (1.5) must be from 0 (data) to 1 (noise); correct it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.0),
            "t (0.0) must be above 0 and at most 1; correct it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.5, steps=0),
            "steps (0) must be an integer and at least 1; raise or round it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.5, Condition(torch.zeros(3, COND_DIM))),
            "condition (3, 6) must have the shape (2, 6) or (1, 6); take it from model.condition(...)",
        ),
        (
            lambda model: model.condition(label="boot"),
            "condition (label) must name label, wide, level; give each of them, or none at all",
        ),
        (
            lambda model: model.condition(label="shoe", wide=0, level=1),
            "condition label (['shoe']) must be from boot, bag, 7, or their indices; correct it",
        ),
        (
            lambda model: model.condition(label=3, wide=0, level=1),
            "condition label ([3]) must be from boot, bag, 7, or their indices; correct it",
        ),
        (
            lambda model: model.condition(label=0, wide="yes", level=1),
            "condition wide (['yes']) must be 0 or 1; correct it",
        ),
        (
            lambda model: model.encode(np.zeros((2, 1, 8, 8), np.float32)),
            "images (ndarray) must be a tensor, float in [-1, 1] of shape (B, 1, 8, 8); convert it by torch.as_tensor",
        ),
        (
            lambda model: model.encode(torch.arange(128.0).reshape(2, 1, 8, 8)),
            "images (values from 0 to 127) must be in [-1, 1]; convert bytes with latentline.data.store.to_unit_range",
        ),
        (
            lambda model: model.encode(torch.full((2, 1, 8, 8), torch.nan)),
            "images (NaN or infinity) must be finite; correct what computes it",
        ),
        (
            lambda model: model.decode(torch.full((2, 2, 4, 4), torch.inf)),
            "z0 (NaN or infinity) must be finite; correct what computes it",
        ),
        (
            lambda model: model.decode(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)),
            "autoencoder.name of this run must be diffae for decode with noise; train a diffae",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, 2, 4, 4, dtype=torch.int64), 0.5),
            "z_t (torch.int64 (2, 2, 4, 4)) must be float and standardised, of shape (B, 2, 4, 4); ",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, 2, 4, 4), torch.tensor([0.5, 0.7])),
            "t (Tensor) must be one number for all images; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale=1e30),
            "guidance_scale (1e+30) must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale=float("nan")),
            "guidance_scale (nan) must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale="2"),
            "guidance_scale ('2') must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, "bag"),
            "condition ('bag') must be what model.condition returns; pass model.condition(...)",
        ),
        (
            lambda model: model.encode(torch.zeros(1, 8, 8)),
            "images (torch.float32 (1, 8, 8)) must be float in [-1, 1] of shape (B, 1, 8, 8); add the axis of the",
        ),
        (
            lambda model: model.encode(torch.zeros(2, 8, 8, 1)),
            "images (torch.float32 (2, 8, 8, 1)) must be float in [-1, 1] of shape (B, 1, 8, 8); move the channels, ",
        ),
        (
            lambda model: model.decode(torch.full((2, 2, 4, 4), 1e30)),
            "z0 (values up to 1e+30) must give finite images, not NaN or infinity in 2 of 2; take it from model.encode",
        ),
        (
            lambda model: model.sample(-1),
            "count (-1) must be an integer and at least 0; raise or round it",
        ),
        (
            lambda model: model.condition(label=np.eye(3), wide=0, level=1),
            "condition label (shape (3, 3)) must have one value per image; pass (B,) values",
        ),
        (
            lambda model: model.condition(label=[0, 1], wide=[0, 1, 1], level=1),
            "inputs (2 label, 3 wide) must be as many each; pass one row for each image",
        ),
        (
            lambda model: model.condition(label=0, wide=1, level=float("nan")),
            "condition level ([nan]) must be finite numbers; correct it",
        ),
        (
            lambda model: model.condition(label=None, wide=1, level=1),
            "condition label ([None]) must be from boot, bag, 7, or their indices; correct it",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(model, bad, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        bad(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_are_converted_on_the_way_in(model, images, dtype):
    given = images.to(dtype)
    z0 = model.encode(given)
    torch.testing.assert_close(z0, model.encode(given.float()))
    assert z0.dtype == torch.float32
    for method, *rest in (
        (model.decode,),
        (model.denoise, 0.5),
        (model.estimate, 0.5),
        (model.add_noise_to_latents, 1),
    ):
        result = method(z0.to(dtype), *rest)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, method(z0.to(dtype).float(), *rest))


def test_images_in_0_to_1_are_used_and_warned_of(model, images):
    with pytest.warns(
        UserWarning, match=r"images \(values from 0.* must be in \[-1, 1\]; if they are in \[0, 1\], pass"
    ):
        model.encode(images.abs())


def test_an_empty_batch_gives_an_empty_batch(model):
    images, latents = torch.empty(0, *model.image_shape), torch.empty(0, *model.latent_shape)
    assert model.encode(images).shape == model.add_noise(images, 0.5).shape == latents.shape
    assert model.decode(latents).shape == images.shape
    nobody = model.condition(label=[], wide=0, level=1.0)
    assert nobody.vector.shape == (0, COND_DIM)
    for drawn in (model.denoise(latents, 0.5, nobody), model.estimate(latents, 0.5), model.sample(0)):
        assert drawn.shape == latents.shape


@pytest.mark.parametrize("kind", [np.array, tuple, torch.tensor, pd.Series, lambda values: np.array(values)[:, None]])
def test_a_condition_takes_arrays_and_columns_of_any_kind(model, kind):
    expected = model.condition(label=[1, 2], wide=[1, 0], level=[12.0, 8.0]).vector
    given = model.condition(label=kind([1, 2]), wide=kind([1, 0]), level=kind([12.0, 8.0])).vector
    assert torch.equal(given, expected)
    names = model.condition(label=np.array(["bag", "7"]), wide=np.array([True, False]), level=np.float32(12)).vector
    assert torch.equal(names[0], expected[0])


def test_a_device_that_is_not_there_is_refused(run):
    assert load(run, torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(UserError, match=r"^device \(gpu: .*\) must be one that this machine has; take cpu$"):
        load(run, "gpu")
