"""SDEdit with an exact model is the map that the ODE has in closed form."""

import pytest
import torch

from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.path import add_noise
from latentline.diffusion.process import PATHS
from latentline.diffusion.sdedit import sdedit
from support.exact_models import COMBINATIONS, gaussian


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_with_the_exact_model_of_a_gaussian_it_is_the_map_that_the_ode_has_in_closed_form(path, prediction, t):
    z0, noise = torch.randn(50, 3, dtype=torch.float64) * 2, torch.randn(50, 3, dtype=torch.float64)
    point = PATHS[path].at_time(t)
    deviation = ((point.alpha * 0.4) ** 2 + point.sigma**2).sqrt()  # of data N(1.5, 0.4^2), noised to t
    z_t = add_noise(z0, noise, PATHS[path](torch.full((50,), t, dtype=torch.float64)))
    expected = 1.5 + 0.4 * (z_t - point.alpha * 1.5) / deviation  # quantiles stay quantiles
    drawn = sdedit(dpmpp_2m, gaussian(3).model(path, prediction), z0, noise, t, steps=400)
    torch.testing.assert_close(drawn, expected, atol=0.02, rtol=0)


def test_far_from_the_data_it_leads_back_and_the_further_up_the_nearer():
    far, noise = torch.full((200, 2), 4.0, dtype=torch.float64), torch.randn(200, 2, dtype=torch.float64)
    away = [
        float((sdedit(dpmpp_2m, gaussian(2).model("flow"), far, noise, t, steps=20).mean() - 1.5).abs())
        for t in (0.01, 0.3, 0.6, 0.9)
    ]
    assert away == sorted(away, reverse=True)
    assert away[0] > 2
    assert away[-1] < 0.2
