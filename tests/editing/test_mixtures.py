"""Interpolation, arithmetic and noise of latents."""

import math

import pytest
import torch

from latentline.editing.mixtures import arithmetic, linear, perturb, spherical

FRACTIONS = torch.linspace(0, 1, 7)


@pytest.mark.parametrize("interpolate", [linear, spherical])
def test_both_interpolations_begin_and_end_at_the_two_images(interpolate):
    start, end = torch.randn(4, 9), torch.randn(4, 9)
    between = interpolate(start, end, FRACTIONS)
    assert between.shape == (4, 7, 9)
    torch.testing.assert_close(between[:, 0], start)
    torch.testing.assert_close(between[:, -1], end)


def test_a_straight_line_is_torchs():
    start, end = torch.randn(4, 9), torch.randn(4, 9)
    torch.testing.assert_close(
        linear(start, end, FRACTIONS), torch.lerp(start[:, None], end[:, None], FRACTIONS[:, None])
    )


def test_a_great_circle_turns_evenly_and_keeps_the_length():
    start, end = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    angles = FRACTIONS * math.pi / 2
    torch.testing.assert_close(
        spherical(start, end, FRACTIONS)[0], 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    )
    start, end = (torch.nn.functional.normalize(torch.randn(6, 20), dim=1) for _ in range(2))
    torch.testing.assert_close(spherical(start, end, FRACTIONS).norm(dim=2), torch.ones(6, 7))


def test_between_points_of_one_line_through_0_the_interpolation_is_straight():
    start = torch.randn(3, 5)
    for end in (start, 2 * start, -start):
        torch.testing.assert_close(
            spherical(start, end, FRACTIONS), linear(start, end, FRACTIONS), atol=1e-3, rtol=1e-3
        )


def test_arithmetic_gives_one_image_what_distinguishes_two_others():
    a, b, c = torch.randn(3, 4, 6)
    torch.testing.assert_close(arithmetic(a, b, c) - c, a - b)
    torch.testing.assert_close(arithmetic(a, a, c), c)


def test_perturbations_are_one_noise_at_several_scales():
    latents, noise, scales = torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0.0, 0.5, 2.0])
    moved = perturb(latents, scales, noise) - latents[:, None]
    torch.testing.assert_close(moved, torch.stack([0 * noise, 0.5 * noise, 2 * noise], dim=1))
