"""FlowEdit between exact models of two Gaussians moves data by what the difference of both ODEs has in closed form."""

import pytest
import torch

from latentline.diffusion.flow_edit import flow_edit
from latentline.diffusion.path import NoisePath
from latentline.diffusion.process import PATHS
from support.exact_models import COMBINATIONS, Mixture

DEVIATION, FROM, TO = 0.4, -0.5, 1.5


def _moved(path: str, prediction: str, **settings: float) -> torch.Tensor:
    deviation = torch.tensor([DEVIATION], dtype=torch.float64)
    source, target = (
        Mixture(torch.full((1, 3), mean, dtype=torch.float64), deviation).model(path, prediction) for mean in (FROM, TO)
    )
    z0, noise = torch.randn(2, 5, 3, dtype=torch.float64)
    return flow_edit(source, target, FROM + DEVIATION * z0, lambda step: noise * (-1) ** step, **settings)


def _expected(path: NoisePath, start: float) -> float:
    """D' = A D + B (TO - FROM), D(start) = 0, where A and B give the marginals of both Gaussians."""
    point = path.at_time(start)
    deviation = ((point.alpha * DEVIATION) ** 2 + point.sigma**2).sqrt()
    return float((TO - FROM) * (1 - point.alpha * DEVIATION / deviation))


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_between_exact_gaussians_it_is_the_closed_form_on_every_path(path, prediction):
    moved = _moved(path, prediction, start=0.7, steps=100)
    torch.testing.assert_close(moved, torch.full_like(moved, _expected(PATHS[path], 0.7)), atol=0.03, rtol=0)


def test_from_pure_noise_it_is_the_difference_of_the_means():
    moved = _moved("flow", "velocity", start=1.0, steps=200)
    torch.testing.assert_close(moved, torch.full_like(moved, TO - FROM), atol=0.02, rtol=0)


def test_strength_0_changes_nothing_and_negative_ones_lead_away():
    assert not _moved("flow", "velocity", strength=0.0).any()
    assert (_moved("flow", "velocity", strength=-1.0) < -0.5).all()
    assert (_moved("flow", "velocity", strength=2.0) > _moved("flow", "velocity")).all()
