"""Calibration: torchmetrics' error, and bins that hold every prediction once."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from stages.train_latent_classifiers.calibration import Bin, calibration_error, reliability


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_torchmetrics(sharpness, bins):
    logits = torch.randn(1000, 4)
    truth = torch.distributions.Categorical(logits=logits).sample()
    probabilities = (sharpness * logits).softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    ours = calibration_error(reliability(confidence, predicted == truth, bins))
    assert ours == pytest.approx(
        float(multiclass_calibration_error(probabilities, truth, num_classes=4, n_bins=bins)), abs=1e-5
    )


def test_a_confidence_of_three_quarters_that_is_right_three_times_of_four_has_no_error():
    confidence, correct = torch.full((8,), 0.75), torch.tensor([True, True, True, False] * 2)
    assert reliability(confidence, correct) == [Bin(0.75, 0.75, 1.0)]
    assert calibration_error(reliability(confidence, correct)) == 0
    assert calibration_error(reliability(torch.ones(8), correct)) == 0.25


def test_every_prediction_is_in_one_bin_at_the_ends_too():
    bins = reliability(torch.tensor([0.0, 0.2, 0.5, 1.0]), torch.tensor([True, False, True, True]), bins=2)
    assert sum(part.share for part in bins) == pytest.approx(1)
    assert [part.share for part in bins] == [0.75, 0.25]
