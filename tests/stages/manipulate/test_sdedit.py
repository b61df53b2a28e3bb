"""SDEdit of latents: what the denoiser is conditioned on, and the noise of each image."""

import pytest
import torch
from torch import Tensor, nn

from latentline.core.attributes import Attribute
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.denoisers.conditioning import conditioning_on
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import build_process
from stages.manipulate.sdedit import SDEdit

SCHEMA = build_schema((), (Attribute("smiling", "binary"),))
SHAPE = (2, 3, 3)


class OneSided(nn.Module):
    """Predicts data that equal the condition, -1 or 1, everywhere."""

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return condition.vector[:, :, None, None].expand_as(z_t)


def _sdedit(t: float, seed: int = 0) -> SDEdit:
    denoiser = Denoiser(
        OneSided(), build_process("flow", "x0"), conditioning_on(["smiling"], SCHEMA), SHAPE, torch.device("cpu")
    )
    return SDEdit(denoiser, t, 4, 1.0, seed)


class Still(nn.Module):
    """Predicts a velocity of 0."""

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return torch.zeros_like(z_t)


def _noised(t: float, z0: Tensor, indices: Tensor, seed: int = 0) -> Tensor:
    denoiser = Denoiser(
        Still(), build_process("flow", "velocity"), conditioning_on([], SCHEMA), SHAPE, torch.device("cpu")
    )
    labels = LabelTable(SCHEMA, torch.zeros(len(z0), 1))
    return SDEdit(denoiser, t, 4, 1.0, seed)(z0, labels, indices)


def test_the_denoiser_is_conditioned_on_each_latents_labels():
    values = torch.tensor([[0.0], [1.0], [0.0]])
    edited = _sdedit(0.5)(torch.randn(3, *SHAPE), LabelTable(SCHEMA, values), torch.arange(3))
    torch.testing.assert_close(edited, (2 * values - 1)[:, :, None, None].expand(3, *SHAPE))


def test_the_noise_depends_on_the_seed_and_the_images_index_and_not_on_the_batch():
    z0 = torch.randn(300, *SHAPE)
    indices = torch.arange(300) % 7
    noise = (_noised(0.25, z0, indices) - 0.75 * z0) / 0.25
    torch.testing.assert_close(noise, noise[:7][indices], atol=1e-4, rtol=0)
    alone = _noised(0.25, z0[299:], indices[299:])
    torch.testing.assert_close(alone, _noised(0.25, z0, indices)[299:])
    assert not torch.equal(alone, _noised(0.25, z0[299:], indices[299:], seed=1))


class Broken(nn.Module):
    """Predicts NaN."""

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return z_t * torch.nan


def test_results_that_are_not_finite_stop_with_the_setting():
    conditioning = conditioning_on(["smiling"], SCHEMA)
    denoiser = Denoiser(Broken(), build_process("flow", "x0"), conditioning, SHAPE, torch.device("cpu"))
    labels = LabelTable(SCHEMA, torch.ones(2, 1))
    message = r"^manipulate\.renoise_guidance_scale \(3\.0\) must give finite latents, not NaN or infinity in 2 of 2; "
    with pytest.raises(UserError, match=message):
        SDEdit(denoiser, 0.5, 4, 3.0, 0)(torch.zeros(2, *SHAPE), labels, torch.arange(2))
