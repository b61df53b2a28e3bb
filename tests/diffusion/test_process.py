import pytest
import torch

from latentline.core.errors import UserError
from latentline.diffusion.prediction import PREDICTIONS
from latentline.diffusion.process import PATHS, build_process, conditional_model, require_compatible
from support.exact_models import COMBINATIONS

REFUSED = [(path, prediction) for path in PATHS for prediction in PREDICTIONS if (path, prediction) not in COMBINATIONS]


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_what_makes_sense_is_built(path, prediction):
    process = build_process(path, prediction)
    assert (process.path.name, process.prediction) == (path, prediction)


@pytest.mark.parametrize(("path", "prediction"), REFUSED)
def test_what_makes_none_is_refused_with_a_reason_and_a_remedy(path, prediction):
    with pytest.raises(
        UserError, match=rf"prediction: {prediction} is refused on path {path}: .*; set it to one of "
    ) as caught:
        build_process(path, prediction)
    remedies = str(caught.value).rsplit("one of ", 1)[1].split(", ")
    assert remedies == [kind for kind in PREDICTIONS if (path, kind) in COMBINATIONS]


def test_the_refusals_are_where_the_equations_break():
    """Where sampling starts, noise says nothing of the data; where data are, the velocity's noise part has no bound."""
    assert PATHS["flow"].at_time(1.0).alpha == 0
    assert PATHS["vp_linear"].at_time(0.0).d_sigma.isinf()
    assert REFUSED == [("flow", "epsilon"), ("vp_linear", "velocity"), ("vp_cosine", "velocity")]


@pytest.mark.parametrize(("path", "prediction", "knob"), [("straight", "v", "path"), ("flow", "eps", "prediction")])
def test_unknown_names_are_refused(path, prediction, knob):
    with pytest.raises(UserError, match=f"{knob}: .* is unknown; expected one of "):
        require_compatible(path, prediction)


def test_the_model_asks_the_network_with_its_condition_at_the_batchs_time():
    seen = []

    def network(*arguments: torch.Tensor) -> torch.Tensor:
        seen.extend(arguments)
        return arguments[0]

    z, condition = torch.randn(4, 2), torch.randn(4, 3)
    conditional_model(network, build_process("flow", "velocity"), condition).predict_at(z, 0.25)
    assert torch.equal(seen[0], z)
    assert torch.equal(seen[1], torch.full((4,), 0.25))
    assert seen[2] is condition


def test_as_a_vector_field_the_model_is_its_velocity():
    z, t = torch.randn(4, 2), torch.rand(4)
    model = conditional_model(
        lambda z_t, t, condition: torch.sin(z_t), build_process("flow", "velocity"), torch.zeros(4, 0)
    )
    torch.testing.assert_close(model(z, t), torch.sin(z))
