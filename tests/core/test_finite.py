"""NaN and infinity are refused with the probable cause, and never become black pixels."""

import pytest
import torch

from latentline.autoencoders.load import decode_images
from latentline.core.errors import UserError
from latentline.core.finite import require_finite


def test_finite_values_pass_as_they_are():
    values = torch.randn(3, 2)
    assert require_finite(values, "x (1)", "lower it") is values
    assert require_finite(values[:0], "x (1)", "lower it").shape == (0, 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_others_are_counted_and_the_setting_is_named(bad):
    values = torch.zeros(3, 2, 2)
    values[1, 0, 1] = values[2, 1, 1] = bad
    message = r"^sample.guidance_scale \(7\) must give finite latents, not NaN or infinity in 2 of 3; lower it$"
    with pytest.raises(UserError, match=message):
        require_finite(values, "sample.guidance_scale (7)", "lower it")


class _Broken(torch.nn.Module):
    noise_shape = None

    def decode(self, raw: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        return raw / 0


def test_pixels_that_are_not_finite_stop_the_decoding():
    with pytest.raises(UserError, match=r"must give finite pixels, not NaN or infinity in 2 of 2; lower it and"):
        decode_images(_Broken(), torch.ones(2, 1, 4, 4), torch.device("cpu"), (1, 4, 4))
