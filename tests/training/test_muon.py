"""Muon's step against torch's own, and its iteration against the singular value decomposition."""

import pytest
import torch
from torch import nn

from latentline.denoisers.build import build_denoiser, is_hidden_matrix
from latentline.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (1, 16, 16)])
def test_the_singular_vectors_stay_and_the_singular_values_become_about_one(shape):
    matrices = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    values = u.mT @ orthogonalised(matrices) @ v.mT  # (N, r, r)
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert 0.6 < diagonal.min() < diagonal.max() < 1.3
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-3, rtol=0)


def test_a_matrix_without_a_gradient_does_not_move():
    assert not orthogonalised(torch.zeros(1, 4, 6)).any()


def test_steps_are_those_of_torch():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12 * 20).reshape(12, 20).sin()) for _ in range(2))
    muon = Muon([ours], [], lr=0.02, betas=(0.9, 0.99), weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(12, 20)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # torch iterates in bfloat16
    assert (ours - torch.linspace(-1, 1, 12 * 20).reshape(12, 20).sin()).abs().max() > 0.02


def test_all_other_weights_move_as_by_adamw_and_a_kernel_as_its_matrix():
    kernel, matrix = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4, 27))
    matrix.data = kernel.detach().reshape(4, 27).clone()
    bias, same = (nn.Parameter(torch.arange(4.0)) for _ in range(2))
    settings = {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1}
    optimizers = [
        Muon([kernel], [bias], **settings),
        Muon([matrix], [], **settings),
        torch.optim.AdamW([same], **settings),
    ]
    for _ in range(3):
        gradient = torch.randn(4, 27)
        kernel.grad, matrix.grad = gradient.reshape(4, 3, 3, 3), gradient
        bias.grad = same.grad = gradient[:, 0].clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(kernel.reshape(4, 27), matrix)
    torch.testing.assert_close(bias, same)


def test_a_loaded_state_continues_alike():
    def built() -> tuple[list[nn.Parameter], Muon]:
        weights = [nn.Parameter(torch.linspace(-1, 1, 24).reshape(4, 6)), nn.Parameter(torch.arange(4.0))]
        return weights, Muon(weights[:1], weights[1:], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)

    def train(weights: list[nn.Parameter], muon: Muon, steps: range) -> None:
        for step in steps:
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
            muon.step()

    weights, muon = built()
    train(weights, muon, range(5))
    again, continued = built()
    train(again, continued, range(3))
    after, resumed = built()
    for weight, saved in zip(after, again, strict=True):
        weight.data.copy_(saved.data)
    resumed.load_state_dict(continued.state_dict())
    train(after, resumed, range(3, 5))
    assert all(torch.equal(weight, one) for weight, one in zip(weights, after, strict=True))


def test_where_a_gradient_is_infinite_the_step_is_skipped():
    matrix, bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4))
    muon = Muon([matrix], [bias], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    for overflow in (False, True):
        matrix.grad, bias.grad = torch.randn(4, 6), torch.randn(4)
        if overflow:
            matrix.grad[0, 0] = torch.inf
        before = [part.clone() for part in (matrix, bias, muon.state[matrix].get("momentum", matrix))]
        muon.found_inf = torch.tensor(float(overflow))
        muon.grad_scale = None
        muon.step()
        after = (matrix, bias, muon.state[matrix]["momentum"])
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True)) == overflow


@pytest.mark.parametrize(
    ("name", "shape", "options", "first_and_last"),
    [
        ("unet", [4, 8, 8], {"channels": [8, 8], "blocks": 1, "attention_levels": [1]}, {"stem", "out", "embedding"}),
        ("dit", [4, 8, 8], {"width": 16, "depth": 1, "heads": 2, "patch_size": 2}, {"stem", "out", "embedding"}),
        ("mlp", [12], {"width": 16, "depth": 3}, {"layers.0", "out", "embedding"}),
    ],
)
def test_of_a_denoiser_it_moves_what_lies_between_the_first_and_the_last_layer(name, shape, options, first_and_last):
    text = {"num_ids": 20, "length": 4, "width": 8, "depth": 1, "heads": 2}
    network = build_denoiser(name, text=text, latent_shape=shape, cond_dim=3, **options)
    matrices = {key for key, parameter in network.named_parameters() if parameter.ndim >= 2}
    left_out = {key for key in matrices if not is_hidden_matrix(key, network.get_parameter(key))}
    assert {key.removeprefix("network.").rpartition(".")[0] for key in left_out} >= {"text.embedding"}
    for key in matrices:
        begins = key.startswith(("text.embedding.", "text.positions")) or any(
            key.startswith(f"network.{part}.") for part in first_and_last
        )
        assert (key in left_out) == begins, key
    assert len(left_out) < len(matrices)
