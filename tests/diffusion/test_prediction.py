import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.diffusion.path import add_noise, flow_path, velocity
from latentline.diffusion.prediction import from_velocity


@given(st.floats(0.02, 0.98), st.integers(0, 2**16))
def test_the_exact_velocity_gives_back_data_noise_and_score(time, seed):
    z0, noise = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    point = flow_path(torch.full((3,), time, dtype=torch.float64))
    z_t, v = add_noise(z0, noise, point), velocity(z0, noise, point)
    found = from_velocity(z_t, v, point)
    torch.testing.assert_close(found.z0, z0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.noise, noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.score, -noise / time, rtol=1e-9, atol=1e-9)
    assert found.velocity is v


@given(st.floats(0.02, 0.98), st.integers(0, 2**16))
def test_any_prediction_in_all_its_forms_describes_one_and_the_same_point(time, seed):
    z_t, v = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    point = flow_path(torch.full((3,), time, dtype=torch.float64))
    found = from_velocity(z_t, v, point)
    torch.testing.assert_close(add_noise(found.z0, found.noise, point), z_t)
    torch.testing.assert_close(velocity(found.z0, found.noise, point), v)


def test_at_time_0_the_state_itself_is_the_data():
    z_t, v = torch.randn(2, 3, 2, 4, 4)
    assert torch.equal(from_velocity(z_t, v, flow_path(torch.zeros(3))).z0, z_t)
