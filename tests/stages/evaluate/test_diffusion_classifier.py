"""The diffusion classifier with an exact denoiser agrees with the closed form."""

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.core.seeds import generator
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.load import Denoiser
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, build_process
from stages.evaluate.diffusion_classifier import class_shares, classify, diffusion_classifier_scores, require_class
from stages.evaluate.params import BayesParams

SCHEMA = (
    Attribute(CLASS, "categorical", ("left", "middle", "right")),
    Attribute("size", "continuous"),
    Attribute("raised", "binary"),
)
CENTRES = torch.tensor([[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
RAISE = torch.tensor([0.0, 2.0])  # where the attribute is present
EVEN = torch.ones(3) / 3
each_method = pytest.mark.parametrize("method", ["denoising", "inversion", "likelihood"])


def _denoiser(*columns: int) -> Denoiser:
    """Return the exact denoiser for Gaussians of deviation 0.5, conditioned on the class and on ``raised``."""

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        mean = condition.vector[:, :3] @ CENTRES + (condition.vector[:, 3:] + 1) / 2 * RAISE
        point = PATHS["flow"](t)
        at = point.expand(2)
        away, variance = z_t - at.alpha * mean, (at.alpha * 0.5) ** 2 + at.sigma**2
        return training_target("velocity", mean + at.alpha * 0.25 / variance * away, at.sigma / variance * away, point)

    conditioning = Conditioning(tuple(SCHEMA[column] for column in columns))
    return Denoiser(network, build_process("flow", "velocity"), conditioning, (2,), torch.device("cpu"))


def _images(count: int = 60) -> tuple[torch.Tensor, LabelTable]:
    """Return latents and the labels of their images."""
    values = torch.stack([torch.arange(count) % 3, torch.zeros(count), torch.arange(count) % 2], dim=1).float()
    noise = torch.randn(count, 2, generator=generator(0, "images"))
    return CENTRES[values[:, 0].long()] + values[:, 2:] * RAISE + 0.5 * noise, LabelTable(SCHEMA, values)


def _params(method: str, count: int = 60, steps: int = 24) -> BayesParams:
    return BayesParams(count=count, method=method, steps=steps, weighting="z0_early", probes=1)


def _closed_form(z0: torch.Tensor, labels: LabelTable) -> torch.Tensor:
    return (z0 - labels.values[:, 2:] * RAISE)[:, None].sub(CENTRES).square().sum(dim=2).argmin(dim=1).float()


@each_method
def test_latents_are_classified_as_in_the_closed_form_given_the_other_attributes(method):
    z0, labels = _images()
    found = classify(_params(method), 0, _denoiser(0, 2), z0, labels, EVEN)
    assert (found == _closed_form(z0, labels)).float().mean() > 0.9


@each_method
def test_the_class_label_of_an_image_does_not_matter(method):
    z0, labels = _images(12)
    other = LabelTable(SCHEMA, labels.values.clone())
    other.values[:, 0] = (labels.values[:, 0] + 1) % 3
    found = [classify(_params(method, steps=4), 0, _denoiser(0, 2), z0, given, EVEN) for given in (labels, other)]
    assert torch.equal(*found)


@each_method
def test_the_class_of_an_image_does_not_depend_on_the_others_or_the_batch(method, monkeypatch):
    z0, labels = _images(12)
    alone = classify(_params(method, steps=4), 0, _denoiser(0, 2), z0[3:5], labels[3:5], EVEN)
    together = classify(_params(method, steps=4), 0, _denoiser(0, 2), z0, labels, EVEN)
    monkeypatch.setattr("stages.evaluate.diffusion_classifier._BATCH", 9)
    assert torch.equal(classify(_params(method, steps=4), 0, _denoiser(0, 2), z0, labels, EVEN), together)
    assert torch.equal(alone, together[3:5])


def test_a_class_without_training_images_is_never_chosen_and_the_prior_decides_between_equal_likelihoods():
    z0, labels = _images()
    never = classify(_params("inversion"), 0, _denoiser(0, 2), z0, labels, torch.tensor([0.5, 0.5, 0.0]))
    assert set(never.tolist()) == {0, 1}
    between = CENTRES[:2].mean(dim=0, keepdim=True)
    for prior, expected in ([0.2, 0.7, 0.1], 1), ([0.7, 0.2, 0.1], 0):
        found = classify(_params("inversion"), 0, _denoiser(0, 2), between, labels[:1], torch.tensor(prior))
        assert found.item() == expected


def test_scores_are_of_the_chosen_images_beside_the_feature_extractor_and_the_commonest_class(workplace):
    z0, labels = _images()
    predicted = labels.values[:, 0].clone()
    predicted[:30] = 0  # the feature extractor assigns half of the images to the first class
    arguments = 0, _denoiser(0, 2), z0, labels, EVEN, predicted
    scores, confused = diffusion_classifier_scores(_params("inversion", count=1000), *arguments)
    found = classify(_params("inversion"), 0, _denoiser(0, 2), z0, labels, EVEN)
    accuracy = (found == labels.values[:, 0]).float().mean().item()
    assert scores["count"] == confused.counts.sum() == 60
    assert scores["accuracy"] == pytest.approx(accuracy)
    assert scores["standard_error"] == pytest.approx((accuracy * (1 - accuracy) / 60) ** 0.5)
    assert scores["accuracy_of_the_feature_extractor"] == pytest.approx(40 / 60)
    assert scores["accuracy_of_the_judge"] == scores["accuracy_of_the_feature_extractor"]
    assert scores["accuracy_of_the_commonest_class"] == pytest.approx(1 / 3)
    assert confused.counts.diag().sum() / 60 == pytest.approx(accuracy)
    assert diffusion_classifier_scores(_params("inversion", count=7), *arguments)[0]["count"] == 7


def test_class_shares_are_those_of_the_labels_even_of_a_class_without_images():
    _, labels = _images(10)
    shares = class_shares(labels[labels.values[:, 0] != 2])
    torch.testing.assert_close(shares, torch.tensor([4 / 7, 3 / 7, 0.0]))


def test_a_denoiser_that_is_not_conditioned_on_the_class_is_refused_in_one_line():
    require_class(_denoiser(0, 2), 5)
    with pytest.raises(
        UserError,
        match=r"^evaluate\.bayes\.count \(5\) must be 0 for a denoiser conditioned on raised .*; set it to 0, or ",
    ) as caught:
        require_class(_denoiser(2), 5)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="a denoiser conditioned on nothing and not on the class"):
        require_class(_denoiser(), 5)
