"""A process accepts the pairs of path and prediction that can work, and refuses the others with the remedy."""

import re

import pytest
import torch

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.diffusion.prediction import PREDICTIONS
from latentline.diffusion.process import PATHS, build_process, conditional_model, require_compatible
from support.exact_models import COMBINATIONS

REFUSED = [(path, prediction) for path in PATHS for prediction in PREDICTIONS if (path, prediction) not in COMBINATIONS]


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_a_pair_that_can_work_is_built(path, prediction):
    process = build_process(path, prediction)
    assert (process.path.name, process.prediction) == (path, prediction)


@pytest.mark.parametrize(("path", "prediction"), REFUSED)
def test_a_pair_that_cannot_work_is_refused_with_a_reason_and_a_remedy(path, prediction):
    with pytest.raises(UserError) as caught:
        build_process(path, prediction)
    others = [kind for kind in PREDICTIONS if (path, kind) in COMBINATIONS]
    start = re.escape(f"prediction ({prediction}) must be one of {', '.join(others)} on path {path}, since ")
    found = re.fullmatch(rf"{start}[^;]+; set it to (?P<remedy>\w+)(, [^;]+)?", str(caught.value))
    assert found, caught.value
    assert found["remedy"] in others


def test_the_refusals_are_where_the_equations_break():
    """Where sampling starts, noise holds no data; at the data, the velocity's noise part has no bound."""
    assert PATHS["flow"].at_time(1.0).alpha == 0
    assert PATHS["vp_linear"].at_time(0.0).d_sigma.isinf()
    assert REFUSED == [("flow", "epsilon"), ("vp_linear", "velocity"), ("vp_cosine", "velocity")]


@pytest.mark.parametrize(
    ("path", "prediction", "expected"),
    [
        ("straight", "v", "path (straight) must be one of flow, vp_linear, vp_cosine; correct it"),
        ("flow", "eps", "prediction (eps) must be one of epsilon, v, x0, velocity; correct it"),
    ],
)
def test_unknown_names_are_refused(path, prediction, expected):
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        require_compatible(path, prediction)


def test_the_model_evaluates_the_network_with_its_condition_at_the_time_of_the_batch():
    received = []

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        received.extend((z_t, t, condition))
        return z_t

    z, condition = torch.randn(4, 2), Condition(torch.randn(4, 3))
    conditional_model(network, build_process("flow", "velocity"), condition).predict_at(z, 0.25)
    assert torch.equal(received[0], z)
    assert torch.equal(received[1], torch.full((4,), 0.25))
    assert received[2] is condition


def test_as_a_vector_field_the_model_is_its_velocity():
    z, t = torch.randn(4, 2), torch.rand(4)
    process, condition = build_process("flow", "velocity"), Condition(torch.zeros(4, 0))
    model = conditional_model(lambda z_t, t, condition: torch.sin(z_t), process, condition)
    torch.testing.assert_close(model(z, t), torch.sin(z))
