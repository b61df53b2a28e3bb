import pytest
import torch
from exact_models import COMBINATIONS, Mixture

from latentline.common.seeds import generator
from latentline.diffusion.classification import denoising_errors
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, build_process

MEANS = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]], dtype=torch.float64)
CONDITIONS = torch.eye(3, dtype=torch.float64)


def _network(path: str, prediction: str):
    """Told a class, it knows that class's Gaussian exactly."""

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        own = Mixture(condition[:1] @ MEANS, torch.tensor([0.4], dtype=torch.float64))
        return training_target(prediction, *own.estimates(z_t, t, path), PATHS[path](t))

    return network


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_the_class_that_explains_an_image_best_is_bayes_choice(path, prediction):
    labels = torch.arange(60) % 3
    z0 = MEANS[labels] + 0.4 * torch.randn(60, 2, dtype=torch.float64, generator=generator(0))
    t = torch.linspace(0.02, 0.98, 40)
    noise = torch.randn(40, 2, dtype=torch.float64, generator=generator(1))
    errors = denoising_errors(_network(path, prediction), build_process(path, prediction), z0, CONDITIONS, t, noise)
    bayes = (z0[:, None] - MEANS).square().sum(2).argmin(dim=1)
    assert errors.shape == (60, 3)
    assert (errors.argmin(dim=1) == bayes).float().mean() > 0.9
    assert (bayes == labels).float().mean() > 0.8


def test_an_error_is_the_mean_square_over_the_pairs_of_time_and_noise():
    z0, conditions = torch.randn(4, 2, 3, 3), torch.randn(2, 5)
    t, noise = torch.tensor([0.2, 0.7]), torch.randn(2, 2, 3, 3)

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return z_t * condition.sum(dim=1)[:, None, None, None]

    found = denoising_errors(network, build_process("vp_linear", "epsilon"), z0, conditions, t, noise)
    for image in range(4):
        for index in range(2):
            expected = 0.0
            for time, draw in zip(t, noise, strict=True):
                at = PATHS["vp_linear"](time)
                z_t = at.alpha * z0[image] + at.sigma * draw
                expected += (z_t * conditions[index].sum() - draw).square().mean().item() / 2
            assert abs(found[image, index].item() - expected) < 1e-4 * expected
