"""Agreement of predicted labels with the ground truth equals the scores of scikit-learn."""

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, r2_score

from latentline.core.attributes import Attribute
from latentline.evaluation.agreement import agreement, confusion_counts, confusion_sample, constant_agreement

HAIR = Attribute("hair", "categorical", ("black", "red", "none"))
SMILING = Attribute("smiling", "binary")
AGE = Attribute("age", "continuous", mean=40.0, std=12.5)


@pytest.mark.parametrize("column", [HAIR, SMILING], ids=["categorical", "binary"])
def test_the_accuracy_is_scikit_learns(column):
    predicted, targets = (torch.randint(0, max(column.num_logits, 2), (97,)).float() for _ in range(2))
    assert agreement(column, predicted, targets) == pytest.approx(accuracy_score(targets, predicted))
    assert (agreement(column, targets, targets), agreement(column, targets + 1, targets)) == (1, 0)


@pytest.mark.parametrize("error", [0.0, 1.0, 10.0, 100.0])
def test_for_numbers_it_is_scikit_learns_coefficient_of_determination(error):
    targets = 2000 + 12.5 * torch.randn(97, dtype=torch.float64)  # far from 0, as years are
    predicted = targets + error * torch.randn(97)
    assert agreement(AGE, predicted.float(), targets.float()) == pytest.approx(
        r2_score(targets, predicted), abs=1e-4, rel=1e-4
    )


@pytest.mark.parametrize("predicted", [[7.0, 7.0, 7.0], [7.0, 8.0, 6.0]], ids=["right", "wrong"])
def test_for_constant_numbers_it_is_1_or_0_as_in_scikit_learn(predicted):
    targets = torch.full((3,), 7.0)
    assert agreement(AGE, torch.tensor(predicted), targets) == r2_score(targets, predicted)


def test_the_reference_is_the_best_constant_prediction():
    targets = torch.tensor([0.0, 2.0, 2.0, 1.0, 2.0])
    constants = [agreement(HAIR, torch.full((5,), float(index)), targets) for index in range(3)]
    assert constant_agreement(HAIR, targets) == max(constants) == pytest.approx(0.6)
    ages = torch.randn(20)
    assert constant_agreement(AGE, ages) == pytest.approx(agreement(AGE, ages.mean().expand(20), ages), abs=1e-6)


@pytest.mark.parametrize("present", [3, 2], ids=["every class", "a class that never occurs"])
def test_confusions_are_counted_as_in_scikit_learn(present):
    predicted, targets = (torch.randint(0, present, (97,)).float() for _ in range(2))
    assert (
        confusion_counts(HAIR, predicted, targets).tolist()
        == confusion_matrix(targets, predicted, labels=range(3)).tolist()
    )


def test_a_confusion_figure_has_all_classes_or_the_most_frequent_ones_and_says_so():
    predicted, targets = (torch.randint(0, 3, (97,)).float() for _ in range(2))
    counts, names, note = confusion_sample(HAIR, predicted, targets)
    assert torch.equal(counts, confusion_counts(HAIR, predicted, targets))
    assert (tuple(names), note) == (HAIR.classes, "")
    many = Attribute("label", "categorical", tuple(f"c{index}" for index in range(10_000)))
    frequent = 37 + 3 * torch.arange(200)
    targets = torch.cat([frequent.repeat(2), torch.arange(9_000, 9_500)]).float()
    predicted = targets.clone()
    predicted[0] = 37 + 3
    predicted[1] = 0  # a class that is not drawn
    counts, names, note = confusion_sample(many, predicted, targets)
    assert names == [f"c{index}" for index in frequent.tolist()]
    assert counts.sum() == 399
    assert (int(counts[0, 1]), int(counts[0, 0]), int(counts[1, 1])) == (1, 1, 1)
    assert note == "the 200 most frequent of 10000 classes"


@pytest.mark.parametrize("column", [HAIR, SMILING, AGE], ids=lambda column: column.kind)
def test_images_without_a_value_are_not_scored_and_without_any_value_there_is_no_score(column):
    predicted, values = (torch.randint(0, 2, (97,)).float() for _ in range(2))
    gaps = values.where(torch.arange(97) % 5 > 0, torch.nan)
    present = ~gaps.isnan()
    assert agreement(column, predicted, gaps) == agreement(column, predicted[present], values[present])
    assert constant_agreement(column, gaps) == constant_agreement(column, values[present])
    none = torch.full((97,), torch.nan)
    assert (agreement(column, predicted, none), constant_agreement(column, none)) == (None, None)
