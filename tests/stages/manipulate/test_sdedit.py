import torch
from torch import Tensor, nn

from latentline.core.attributes import Column, all_columns
from latentline.denoisers.conditioning import named_conditions
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import build_process
from stages.manipulate.sdedit import Renoiser

COLUMNS = all_columns((), (Column("smiling", "binary"),))
SHAPE = (2, 3, 3)


class OneSided(nn.Module):
    """Knows data that are what it is told, -1 or 1, everywhere."""

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return condition[:, :, None, None].expand_as(z_t)


def _renoiser(t: float, seed: int = 0) -> Renoiser:
    denoiser = Denoiser(OneSided(), build_process("flow", "x0"), named_conditions(["smiling"], COLUMNS), SHAPE, torch.device("cpu"))
    return Renoiser(denoiser, t, 4, 1.0, seed)


class Keeping(nn.Module):
    """Says that nothing moves."""

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return torch.zeros_like(z_t)


def _noised(t: float, z0: Tensor, numbers: Tensor, seed: int = 0) -> Tensor:
    denoiser = Denoiser(Keeping(), build_process("flow", "velocity"), named_conditions([], COLUMNS), SHAPE, torch.device("cpu"))
    return Renoiser(denoiser, t, 4, 1.0, seed)(z0, torch.zeros(len(z0), 1), numbers)


def test_the_denoiser_is_told_what_each_latent_is_to_be():
    values = torch.tensor([[0.0], [1.0], [0.0]])
    drawn = _renoiser(0.5)(torch.randn(3, *SHAPE), values, torch.arange(3))
    torch.testing.assert_close(drawn, (2 * values - 1)[:, :, None, None].expand(3, *SHAPE))


def test_an_images_noise_is_its_numbers_whatever_stands_beside_it():
    z0 = torch.randn(300, *SHAPE)
    numbers = torch.arange(300) % 7
    noise = (_noised(0.25, z0, numbers) - 0.75 * z0) / 0.25
    torch.testing.assert_close(noise, noise[:7][numbers], atol=1e-4, rtol=0)
    alone = _noised(0.25, z0[299:], numbers[299:])
    torch.testing.assert_close(alone, _noised(0.25, z0, numbers)[299:])
    assert not torch.equal(alone, _noised(0.25, z0[299:], numbers[299:], seed=1))
