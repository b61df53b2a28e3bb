"""A column of labels, as a condition and as the output of a classifier, agrees with torch's distributions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical

from latentline.core.attributes import (
    Attribute,
    cond_dim,
    encode_attributes,
    num_logits,
    predict,
    split_logits,
    with_statistics,
)
from latentline.core.labels import build_schema

BINARY = Attribute("smiling", "binary")
CATEGORICAL = Attribute("hair", "categorical", ("black", "red", "none"))
CONTINUOUS = Attribute("age", "continuous", mean=40.0, std=12.5)
ONE_EACH = pytest.mark.parametrize("column", [BINARY, CATEGORICAL, CONTINUOUS], ids=lambda column: column.kind)
CLASSES = ("cat", "dog")
COLUMNS = build_schema(CLASSES, (BINARY, CONTINUOUS, CATEGORICAL))


def _values(column: Attribute, count: int = 50) -> torch.Tensor:
    if column.kind == "continuous":
        return 40 + 20 * torch.randn(count)
    return torch.randint(0, max(column.num_logits, 2), (count,)).float()


def _perfect(column: Attribute, values: torch.Tensor) -> torch.Tensor:
    """Logits (N, K) of a classifier that is right and sure."""
    if column.kind == "categorical":
        return 40 * torch.eye(len(column.classes))[values.long()]
    return 40 * (2 * values - 1)[:, None] if column.kind == "binary" else ((values - column.mean) / column.std)[:, None]


@ONE_EACH
def test_perfect_logits_predict_the_values_themselves_and_lose_nothing(column):
    values = _values(column)
    logits = _perfect(column, values)
    assert logits.shape == (50, column.num_logits)
    torch.testing.assert_close(column.predict(logits), values, atol=1e-4, rtol=0)
    assert column.loss(logits, values) < 1e-6


@ONE_EACH
def test_other_values_are_other_conditions_and_none_is_the_null_condition(column):
    values = torch.tensor([0.0, 1.0]) if column.kind == "binary" else torch.tensor([0.0, 1.0, 2.0])
    encoded = torch.cat([column.encode(values), torch.zeros(1, cond_dim([column]))])
    assert (torch.cdist(encoded, encoded) + 10 * torch.eye(len(encoded))).min() > 0.05
    assert column.encode(torch.tensor([column.mean])).abs().sum() > 0  # the mean of a number is not the null condition


def test_conditions_are_signs_one_hot_vectors_and_standardised_numbers_after_a_1():
    assert BINARY.encode(torch.tensor([0.0, 1.0])).tolist() == [[-1], [1]]
    assert CATEGORICAL.encode(torch.tensor([2.0, 0.0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert CONTINUOUS.encode(torch.tensor([40.0, 65.0])).tolist() == [[1, 0], [1, 2]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_category_is_minus_the_log_likelihood_of_its_smoothed_label(smoothing):
    values, logits = _values(CATEGORICAL), torch.randn(50, 3)
    likely = Categorical(logits=logits)
    every = torch.stack([-likely.log_prob(torch.full((50,), index)) for index in range(3)])  # (3, 50)
    expected = (1 - smoothing) * -likely.log_prob(values) + smoothing * every.mean(dim=0)
    torch.testing.assert_close(CATEGORICAL.loss(logits, values, smoothing), expected.mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_binary_value_is_that_of_two_categories(smoothing):
    values, logits = _values(BINARY), torch.randn(50, 1)
    two = Attribute("smiling", "categorical", ("no", "yes"))
    as_two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(BINARY.loss(logits, values, smoothing), two.loss(as_two, values, smoothing))
    torch.testing.assert_close(BINARY.loss(logits, values), -Bernoulli(logits=logits[:, 0]).log_prob(values).mean())


def test_the_loss_of_a_number_is_the_mean_square_in_standard_deviations():
    values, logits = _values(CONTINUOUS), torch.randn(50, 1)
    wrong_by = (CONTINUOUS.predict(logits) - values) / 12.5
    torch.testing.assert_close(CONTINUOUS.loss(logits, values, label_smoothing=0.1), wrong_by.square().mean())


def test_statistics_are_those_of_numbers_and_all_else_stays():
    values = torch.stack([_values(column) for column in COLUMNS], dim=1)
    found = with_statistics(COLUMNS, values)
    age = values[:, 2].double().numpy()
    assert found[2] == replace(CONTINUOUS, mean=pytest.approx(np.mean(age)), std=pytest.approx(np.std(age)))
    assert (*found[:2], found[3]) == (*COLUMNS[:2], COLUMNS[3])
    torch.testing.assert_close(found[2].encode(values[:, 2])[:, 1].std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("constant", [0.1, -3e7])
def test_a_number_that_never_varies_keeps_its_scale(constant):
    values = torch.full((1000, 1), constant)
    (found,) = with_statistics([Attribute("width", "continuous")], values)
    assert (found.mean, found.std) == (float(values[0]), 1.0)
    assert torch.equal(found.encode(values[:, 0]), torch.tensor([[1.0, 0.0]]).expand(1000, 2))


def test_conditions_and_logits_are_those_of_each_column_side_by_side():
    values = torch.stack([_values(column) for column in COLUMNS], dim=1)
    each = list(zip(COLUMNS, values.T, strict=True))
    assert torch.equal(
        encode_attributes(COLUMNS, values), torch.cat([column.encode(value) for column, value in each], dim=1)
    )
    assert cond_dim(COLUMNS) == encode_attributes(COLUMNS, values).shape[1] == 2 + 1 + 2 + 3
    parts = [_perfect(column, value) for column, value in each]
    logits = torch.cat(parts, dim=1)
    assert num_logits(COLUMNS) == logits.shape[1] == 2 + 1 + 1 + 3
    assert all(torch.equal(split, part) for split, part in zip(split_logits(COLUMNS, logits), parts, strict=True))
    torch.testing.assert_close(predict(COLUMNS, logits), values, atol=1e-4, rtol=0)


def test_without_columns_conditions_and_predictions_are_empty():
    assert with_statistics((), torch.empty(5, 0)) == ()
    assert cond_dim(()) == num_logits(()) == 0
    assert encode_attributes((), torch.empty(5, 0)).shape == predict((), torch.empty(5, 0)).shape == (5, 0)


@ONE_EACH
def test_a_missing_value_is_left_out_of_the_loss_and_of_the_statistics(column):
    values, logits = _values(column), torch.randn(50, column.num_logits)
    gaps = values.clone()
    gaps[::4] = torch.nan
    present = ~gaps.isnan()
    assert torch.equal(column.loss(logits, gaps, 0.1), column.loss(logits[present], values[present], 0.1))
    found, expected = (with_statistics([column], part[:, None]) for part in (gaps, values[present]))
    assert found == expected


@ONE_EACH
def test_the_loss_without_any_value_is_0_and_changes_no_weight(column):
    logits = torch.randn(5, column.num_logits, requires_grad=True)
    loss = column.loss(logits, torch.full((5,), torch.nan))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_condition_of_a_missing_value_is_the_null_condition_of_its_attribute():
    values = torch.stack([_values(column) for column in COLUMNS], dim=1)
    gaps = values.clone()
    gaps[3, 1], gaps[4, 2], gaps[5, 3] = torch.nan, torch.nan, torch.nan
    found, expected = encode_attributes(COLUMNS, gaps), encode_attributes(COLUMNS, values)
    expected[3, 2], expected[4, 3:5], expected[5, 5:8] = 0, 0, 0  # widths 2, 1, 2, 3
    assert torch.equal(found, expected)
