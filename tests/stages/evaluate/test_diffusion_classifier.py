"""Bayes classification with a denoiser that knows the data exactly."""

import pytest
import torch

from latentline.core.attributes import CLASS, Column
from latentline.core.errors import UserError
from latentline.core.seeds import generator
from latentline.denoisers.conditioning import Conditions
from latentline.denoisers.load import Denoiser
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, build_process
from stages.evaluate.diffusion_classifier import bayes_scores, classify, require_class
from stages.evaluate.params import BayesParams

COLUMNS = (Column(CLASS, "categorical", ("left", "middle", "right")), Column("size", "continuous"), Column("raised", "binary"))
CENTRES = torch.tensor([[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
RAISE = torch.tensor([0.0, 2.0])  # where the attribute is present
EVEN = torch.ones(3) / 3
each_method = pytest.mark.parametrize("method", ["denoising", "inversion", "likelihood"])


def _denoiser(places: tuple[int, ...]) -> Denoiser:
    """Told the class and whether it is raised, it knows the Gaussian, of deviation 0.5, that such latents come from."""

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        mean = condition[:, :3] @ CENTRES + (condition[:, 3:] + 1) / 2 * RAISE
        point = PATHS["flow"](t)
        at = point.expand(2)
        away, variance = z_t - at.alpha * mean, (at.alpha * 0.5) ** 2 + at.sigma**2
        return training_target("velocity", mean + at.alpha * 0.25 / variance * away, at.sigma / variance * away, point)

    conditions = Conditions(tuple(COLUMNS[place] for place in places), places)
    return Denoiser(network, build_process("flow", "velocity"), conditions, (2,), torch.device("cpu"))


def _images(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.stack([torch.arange(count) % 3, torch.zeros(count), torch.arange(count) % 2], dim=1).float()
    noise = torch.randn(count, 2, generator=generator(0, "images"))
    return CENTRES[values[:, 0].long()] + values[:, 2:] * RAISE + 0.5 * noise, values


def _knobs(method: str, count: int = 60, steps: int = 24) -> BayesParams:
    return BayesParams(count=count, method=method, steps=steps, weighting="z0_early", probes=1)


def _closed_form(z0: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return (z0 - values[:, 2:] * RAISE)[:, None].sub(CENTRES).square().sum(dim=2).argmin(dim=1).float()


@each_method
def test_latents_are_classified_as_the_closed_form_does_given_all_else_that_is_known(method):
    z0, values = _images()
    found = classify(_knobs(method), 0, _denoiser((0, 2)), z0, values, EVEN)
    assert (found == _closed_form(z0, values)).float().mean() > 0.9


@each_method
def test_the_class_that_an_image_is_known_to_have_is_not_told(method):
    z0, values = _images(12)
    other = values.clone()
    other[:, 0] = (values[:, 0] + 1) % 3
    found = [classify(_knobs(method, steps=4), 0, _denoiser((0, 2)), z0, known, EVEN) for known in (values, other)]
    assert torch.equal(*found)


@each_method
def test_an_image_is_classified_alike_in_any_company(method, monkeypatch):
    z0, values = _images(12)
    alone = classify(_knobs(method, steps=4), 0, _denoiser((0, 2)), z0[3:5], values[3:5], EVEN)
    together = classify(_knobs(method, steps=4), 0, _denoiser((0, 2)), z0, values, EVEN)
    monkeypatch.setattr("stages.evaluate.diffusion_classifier._BATCH", 9)
    assert torch.equal(classify(_knobs(method, steps=4), 0, _denoiser((0, 2)), z0, values, EVEN), together)
    assert torch.equal(alone, together[3:5])


def test_a_class_without_training_images_is_not_chosen_and_the_commonest_is_where_images_say_nothing():
    z0, values = _images()
    never = classify(_knobs("inversion"), 0, _denoiser((0, 2)), z0, values, torch.tensor([0.5, 0.5, 0.0]))
    assert set(never.tolist()) == {0, 1}
    between = CENTRES[:2].mean(dim=0, keepdim=True)
    assert classify(_knobs("inversion"), 0, _denoiser((0, 2)), between, values[:1], torch.tensor([0.2, 0.7, 0.1])).item() == 1
    assert classify(_knobs("inversion"), 0, _denoiser((0, 2)), between, values[:1], torch.tensor([0.7, 0.2, 0.1])).item() == 0


def test_scores_are_of_the_chosen_images_beside_judge_and_floor(workplace):
    z0, values = _images()
    judged = values[:, 0].clone()
    judged[:30] = 0  # the judge takes half of all images for the first class
    scores, confused = bayes_scores(_knobs("inversion", count=1000), 0, _denoiser((0, 2)), z0, values, EVEN, judged)
    found = classify(_knobs("inversion"), 0, _denoiser((0, 2)), z0, values, EVEN)
    accuracy = (found == values[:, 0]).float().mean().item()
    assert scores["count"] == confused.sum() == 60
    assert scores["accuracy"] == pytest.approx(accuracy)
    assert scores["standard_error"] == pytest.approx((accuracy * (1 - accuracy) / 60) ** 0.5)
    assert scores["accuracy_of_the_judge"] == pytest.approx(40 / 60)
    assert scores["accuracy_of_the_commonest_class"] == pytest.approx(1 / 3)
    assert confused.diag().sum() / 60 == pytest.approx(accuracy)
    assert bayes_scores(_knobs("inversion", count=7), 0, _denoiser((0, 2)), z0, values, EVEN, judged)[0]["count"] == 7


def test_a_denoiser_that_is_not_told_the_class_is_refused_in_one_line():
    require_class(_denoiser((0, 2)))
    with pytest.raises(UserError, match=r"^evaluate\.bayes\.count: the denoiser is told raised, .* set it to 0") as caught:
        require_class(_denoiser((2,)))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="the denoiser is told nothing"):
        require_class(_denoiser(()))
