"""Frechet and kernel distance equal torchmetrics and closed forms."""

import pytest
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from stages.evaluate import distances
from stages.evaluate.distances import fit_gaussian, frechet_distance, kernel_distance, mean_kernel


def _features(count: int, width: int, shift: float = 0.0) -> torch.Tensor:
    """Return correlated, skewed features that are not centred, as of a real network."""
    return (torch.randn(count, width) @ torch.randn(width, width)).relu() + shift


def _exact_gaussian(mean: torch.Tensor, deviation: torch.Tensor, count: int = 50) -> torch.Tensor:
    """Return samples whose own mean and (diagonal) covariance are exactly these."""
    x = torch.randn(count, len(mean), dtype=torch.float64)
    x = x - x.mean(dim=0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return mean + white * deviation


@pytest.mark.parametrize(
    ("count", "width"), [(200, 5), (40, 16), (10, 30)], ids=["many", "few", "fewer than dimensions"]
)
def test_the_frechet_distance_is_torchmetrics(count, width):
    a, b = _features(count, width), _features(count + 13, width, shift=0.3)
    moments = [part for x in (a, b) for part in (x.double().mean(dim=0), torch.cov(x.double().T))]
    assert frechet_distance(a, b) == pytest.approx(_compute_fid(*moments).item(), rel=1e-4)


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    m1, m2 = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 0.0, 4.0]).double()
    s1, s2 = torch.tensor([1.0, 0.2, 3.0]).double(), torch.tensor([2.0, 0.2, 0.5]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(_exact_gaussian(m1, s1), _exact_gaussian(m2, s2)) == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_the_frechet_distance_of_a_set_to_itself_is_0_in_any_order():
    a = _features(100, 8)
    assert frechet_distance(a, a[torch.randperm(100)]) == pytest.approx(0, abs=1e-4)


def test_the_frechet_distance_is_symmetric_and_invariant_under_rotations():
    a, b = _features(100, 6), _features(80, 6, shift=1.0)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-4)


@pytest.mark.parametrize("block", [7, 4096])
def test_the_kernel_distance_is_torchmetrics_whatever_the_block(block):
    a, b = _features(60, 10).double(), _features(60, 10, shift=0.2).double()
    assert kernel_distance(a, b, block) == pytest.approx(poly_mmd(a, b).item(), rel=1e-9)


@pytest.fixture
def small_portions(monkeypatch) -> None:
    """Let 3 rows of 10 numbers be a portion."""
    monkeypatch.setattr(distances, "_PORTION_BYTES", 3 * 10 * 8)


@pytest.mark.usefixtures("small_portions")
def test_portions_give_the_mean_and_covariance_of_all_rows():
    a = _features(40, 10, shift=5.0)
    gaussian = fit_gaussian(a)
    torch.testing.assert_close(gaussian.mean, a.double().mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(gaussian.covariance, torch.cov(a.double().T), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_portions")
def test_portions_give_the_kernel_distance_of_all_pairs_with_and_without_the_references_own_mean():
    a, b = _features(40, 10).double(), _features(40, 10, shift=0.2).double()
    expected = pytest.approx(poly_mmd(a, b).item(), rel=1e-9)
    assert kernel_distance(a, b, block=7) == expected
    assert kernel_distance(a, b, block=7, within_reference=mean_kernel(b, b)) == expected


def test_the_kernel_distance_is_unbiased():
    """For two samples of one distribution the mean is zero, not merely small."""
    values = torch.tensor([kernel_distance(torch.randn(12, 3), torch.randn(8, 3)) for _ in range(400)])
    assert abs(values.mean().item()) < 4 * values.std().item() / 20
    assert values.min() < 0 < values.max()


def test_a_farther_set_is_farther():
    a = _features(200, 6)
    for distance in (frechet_distance, kernel_distance):
        near, far = (distance(a + shift, a) for shift in (0.1, 1.0))
        assert near < far
