"""Latents are standardised and restored exactly, with statistics that are numpy's in double precision."""

import numpy as np
import pytest
import torch

from latentline.latents.normalizer import Moments, Normalizer

SCALES = torch.tensor([1e-3, 1.0, 250.0])[:, None, None]
SHIFTS = torch.tensor([5.0, -0.2, 1000.0])[:, None, None]


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(64, 3, 5, 4) * SCALES + SHIFTS


def test_standardised_latents_have_mean_0_and_deviation_1_in_every_channel(latents):
    standardised = Normalizer.fit(latents).standardise(latents)
    assert standardised.dtype == torch.float32
    torch.testing.assert_close(standardised.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_restore_undoes_standardise(latents):
    normalizer = Normalizer.fit(latents)
    torch.testing.assert_close(normalizer.restore(normalizer.standardise(latents)), latents, rtol=1e-6, atol=1e-6)


def test_standardise_undoes_restore(latents):
    normalizer = Normalizer.fit(latents)
    noise = torch.randn(64, 3, 5, 4)
    torch.testing.assert_close(normalizer.standardise(normalizer.restore(noise)), noise, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1.7, 1e-3])
def test_a_channel_that_never_varies_keeps_its_scale(value):
    latents = torch.cat([torch.full((50, 1, 3, 3), value), torch.randn(50, 1, 3, 3)], dim=1)
    normalizer = Normalizer.fit(latents)
    assert normalizer.std[0].item() == 1
    assert torch.equal(normalizer.standardise(latents)[:, 0], torch.zeros(50, 3, 3))
    assert torch.equal(normalizer.restore(normalizer.standardise(latents))[:, 0], latents[:, 0])


def test_a_vector_is_standardised_number_by_number():
    vectors = torch.randn(500, 3) * torch.tensor([1e-3, 1.0, 250.0]) + torch.tensor([5.0, -0.2, 1000.0])
    normalizer = Normalizer.fit(vectors)
    assert normalizer.mean.shape == normalizer.std.shape == (3,)
    standardised = normalizer.standardise(vectors)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(normalizer.restore(standardised), vectors, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 4), (7,)])
def test_a_constant_factor_only_multiplies(shape):
    raw = torch.randn(2, *shape)
    normalizer = Normalizer.constant(0.18215, shape)
    torch.testing.assert_close(normalizer.standardise(raw), 0.18215 * raw)
    torch.testing.assert_close(normalizer.restore(0.18215 * raw), raw)


def test_half_precision_latents_are_measured_without_overflow():
    latents = (torch.randn(4000, 1, 4, 4) * 100 + 300).half()  # their sum is far beyond the largest half
    normalizer = Normalizer.fit(latents)
    torch.testing.assert_close(
        normalizer.mean.double(), latents.double().mean(dim=(0, 2, 3))[:, None, None], rtol=1e-6, atol=0
    )
    assert normalizer.standardise(latents).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 5, 4), (3,), (1, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_moments_are_numpys_in_double_precision_and_the_same_bits_whatever_the_portions(shape, dtype):
    latents = (torch.randn(300, *shape) * SCALES[-1:].squeeze() + SHIFTS[-1:].squeeze()).to(dtype)
    normalizers = []
    for size in (1, 7, 128, 300):
        moments = Moments()
        for portion in latents.split(size):
            moments.add(portion)
        normalizers.append(moments.normalizer())
    exact = latents.numpy().astype(np.float64)
    over = (0, *range(2, latents.ndim))
    np.testing.assert_allclose(normalizers[0].mean.flatten().numpy(), exact.mean(over), rtol=1e-7)
    np.testing.assert_allclose(normalizers[0].std.flatten().numpy(), exact.std(over, ddof=1), rtol=1e-7)
    for other in normalizers[1:]:
        assert torch.equal(other.mean, normalizers[0].mean)
        assert torch.equal(other.std, normalizers[0].std)


def test_what_varies_little_far_from_zero_is_measured_exactly():
    latents = torch.randn(1000, 1, 4, 4).double() * 1e-6 + 1e3
    np.testing.assert_allclose(Normalizer.fit(latents).std.item(), latents.numpy().std(ddof=1), rtol=1e-5)
