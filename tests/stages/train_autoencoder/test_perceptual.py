"""The perceptual distance against the published network, and what a training needs of it."""

import sys
from importlib import metadata, util
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import Tensor

from latentline.runtime.packaged_weights import PERCEPTUAL, read_packaged_weights
from stages.train_autoencoder.perceptual import PerceptualDistance

pytestmark = pytest.mark.skipif(not util.find_spec("stlpips_pytorch"), reason="the extra `perceptual` is not installed")


@pytest.fixture(scope="module")
def network() -> PerceptualDistance:
    network = PerceptualDistance()
    network.load_published(read_packaged_weights(PERCEPTUAL, "autoencoder.perceptual_weight (1)"))
    return network.eval()


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """(4, 3, 64, 64) in [-1, 1]."""
    scene = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)  # (3, 427, 640)
    corners = [(100, 100), (200, 300), (300, 200), (200, 500)]
    return torch.stack([scene[:, top : top + 64, left : left + 64] for top, left in corners]) / 127.5 - 1


def _blurred(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, factor), size=x.shape[-2:], mode="bilinear")


def test_it_is_the_published_network(network, photographs, monkeypatch):
    for absent in ("IPython", "torchsummary"):  # the package imports them without declaring or needing them
        module = ModuleType(absent)
        module.embed = module.summary = None
        monkeypatch.setitem(sys.modules, absent, module)
    from stlpips_pytorch import stlpips

    published = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    for x in (photographs, F.interpolate(photographs, size=(70, 97))):
        y = (x + 0.3 * torch.randn_like(x)).clamp(-1, 1)
        with torch.no_grad():
            torch.testing.assert_close(network(x, y), published(x, y).flatten(), atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(
                network(x, _blurred(x, 4)), published(x, _blurred(x, 4)).flatten(), atol=1e-6, rtol=1e-4
            )


def test_equal_images_have_no_distance_and_order_does_not_matter(network, photographs):
    other = photographs.roll(1, dims=0)
    assert torch.equal(network(photographs, photographs), torch.zeros(4))
    torch.testing.assert_close(network(photographs, other), network(other, photographs))


def test_it_grows_with_noise_and_with_blur(network, photographs):
    noise = torch.randn_like(photographs)
    by_noise = torch.stack([network(photographs, photographs + strength * noise) for strength in (0.05, 0.1, 0.2, 0.4)])
    by_blur = torch.stack([network(photographs, _blurred(photographs, factor)) for factor in (2, 4, 8)])
    assert (by_noise.diff(dim=0) > 0).all()
    assert (by_blur.diff(dim=0) > 0).all()


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (33, 70), (64, 64)])
def test_images_of_any_size_grey_as_three_equal_colours(network, size):
    x, y = torch.rand(2, 2, 1, *size) * 2 - 1
    distance = network(x, y)
    assert distance.shape == (2,)
    assert (distance > 0).all()
    torch.testing.assert_close(distance, network(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


def test_noise_of_a_small_image_counts_about_as_much_as_its_blur(network, photographs):
    """Images are enlarged because at their own 28 pixels noise of the same squared error counts a third of the blur."""
    x = F.interpolate(photographs, size=(28, 28), mode="area")
    blurred = _blurred(x, 2)
    noise = torch.randn_like(x)
    noisy = x + noise * ((blurred - x).square().mean() / noise.square().mean()).sqrt()
    assert 0.5 < network(x, noisy).mean() / network(x, blurred).mean() < 2


def test_gradients_reach_every_pixel_and_lead_towards_the_original(network, photographs):
    x = _blurred(photographs, 4).requires_grad_()
    distance = network(x, photographs).sum()
    (gradient,) = torch.autograd.grad(distance, x)
    assert (gradient != 0).float().mean() > 0.99
    step = x.detach() - 0.5 * gradient / gradient.square().mean().sqrt() * 0.01
    assert network(step, photographs).sum() < distance


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_flat_images_have_finite_gradients(network, level):
    x = torch.full((1, 1, 28, 28), level, requires_grad=True)
    for other in (x.detach(), torch.zeros(1, 1, 28, 28)):
        (gradient,) = torch.autograd.grad(network(x, other).sum(), x)
        assert gradient.isfinite().all()


def test_it_never_trains(network):
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_reading_the_weights_imports_nothing_of_their_package(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("stlpips_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    read_packaged_weights(PERCEPTUAL, "x")
    assert not any(name.startswith("stlpips_pytorch") for name in sys.modules)
    assert metadata.version("stlpips-pytorch") == "0.0.2"
