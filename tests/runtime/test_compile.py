"""Networks are compiled in place for a block of code, and compute what they do without."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.build import graph_modules
from latentline.denoisers.dit import DiT
from latentline.runtime.compile import compiled, require_compiler

CPU = torch.device("cpu")


@pytest.fixture
def graphs() -> Iterator[list[torch.fx.GraphModule]]:
    """Return the graphs that are made during the test; they run uncompiled."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    with torch.compiler.set_stance("default", force_backend=backend):
        yield made
    torch.compiler.reset()


def test_a_network_keeps_its_names_and_is_compiled_within_the_block_alone(graphs):
    network, x = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), torch.randn(2, 3)
    names = list(network.state_dict())
    torch.manual_seed(1)
    expected = network(x)
    with compiled(True, CPU, [network]):
        torch.manual_seed(1)
        torch.testing.assert_close(network(x), expected)
        assert len(graphs) == 1
        network(x)
        deepcopy(network)(torch.randn(5, 3))  # an average is such a copy
        assert len(graphs) == 1
        network(torch.randn(4, 3))
        assert len(graphs) == 2
        assert list(network.state_dict()) == names
    network(torch.randn(7, 3))
    assert len(graphs) == 2


def test_off_nothing_is_compiled(graphs):
    network = nn.Linear(3, 3)
    with compiled(False, CPU, [network]):
        network(torch.randn(2, 3))
    assert graphs == []


def test_the_equal_blocks_of_a_transformer_share_one_graph(graphs, awake):
    network = awake(DiT((2, 4, 4), cond_dim=3, patch_size=2, width=8, depth=4, heads=2))
    inputs = torch.randn(2, 2, 4, 4), torch.rand(2), Condition(torch.randn(2, 3))
    expected = network(*inputs)
    modules = graph_modules(network)
    assert list(modules) == list(network.blocks)
    with compiled(True, CPU, modules):
        torch.testing.assert_close(network(*inputs), expected)
    assert len(graphs) == 1


def test_without_a_compiler_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    require_compiler(False, CPU)
    expected = r"compute.compile \(true\) must be false without a C\+\+ compiler; install a C\+\+ compiler, or set .*"
    with pytest.raises(UserError, match=expected):
        require_compiler(True, CPU)


@pytest.mark.slow
def test_stages_with_compiled_networks_end_where_they_end_without(copy):
    metrics = {name: copy.metrics(name) for name in ("feature_extractor", "autoencoder", "denoiser")}
    copy.change(**{"compute.compile": True})
    for stage in ("train_feature_extractor", "train_autoencoder", "encode_and_cache_latents", "train_denoiser"):
        copy.dvc("repro", "--single-item", "--force", stage)
    copy.dvc("repro", "--single-item", "--force", "sample")
    assert copy.metrics("autoencoder")["psnr"] == pytest.approx(metrics["autoencoder"]["psnr"], rel=1e-3)
    assert copy.metrics("denoiser")["val_loss"] == pytest.approx(metrics["denoiser"]["val_loss"], rel=1e-2)
    accuracy = copy.metrics("feature_extractor")["accuracy"]
    assert accuracy == pytest.approx(metrics["feature_extractor"]["accuracy"], abs=0.02)


@pytest.mark.parametrize("grad", [False, True], ids=["evaluation", "training"])
def test_a_cuda_graphs_next_call_does_not_overwrite_what_was_computed_without_gradients(grad):
    memory = torch.empty(2, 3)  # of the outputs of all calls, as a CUDA graph has it

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        return lambda *args: (memory.copy_(graph(*args)[0]),)

    frozen = nn.Linear(3, 3).requires_grad_(False)
    first, second = torch.randn(2, 2, 3)
    expected = frozen(first)
    torch.compiler.reset()
    with (
        torch.set_grad_enabled(grad),
        torch.compiler.set_stance("default", force_backend=backend),
        compiled(True, torch.device("cuda"), [frozen]),
    ):
        computed = frozen(first)
        frozen(second)
    torch.compiler.reset()
    torch.testing.assert_close(computed, expected)
