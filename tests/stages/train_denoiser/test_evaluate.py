"""A loss by time is the mean of the losses in each slice of time."""

import numpy as np
import pytest
import torch

from stages.train_denoiser.evaluate import bucket_means


def test_each_slice_of_time_has_the_mean_of_its_own_values():
    t, values = torch.rand(500), torch.randn(500)
    inside = np.minimum((t.numpy() * 7).astype(int), 6)
    expected = [values.numpy()[inside == bucket].mean() for bucket in range(7)]
    assert bucket_means(values, t, 7) == pytest.approx(expected, abs=1e-6)


def test_both_ends_of_time_belong_to_a_slice():
    assert bucket_means(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 0.49, 0.5, 1.0]), 2) == [1.5, 3.5]


def test_a_slice_without_any_time_has_no_mean():
    assert bucket_means(torch.tensor([3.0]), torch.tensor([0.1]), 2) == [3.0, None]
