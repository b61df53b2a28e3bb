"""The DiT equals the blocks of diffusers, takes maps of any size, and uses all of its inputs."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from hypothesis import assume, given
from hypothesis import strategies as st

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.dit import DiT, _AdaLNZeroBlock, sin_cos_positions


def _dit(size: tuple[int, int] = (7, 7), **changes) -> DiT:
    return DiT(
        **{"latent_shape": (3, *size), "cond_dim": 4, "patch_size": 2, "width": 16, "depth": 2, "heads": 2, **changes}
    )


def _inputs(
    count: int, size: tuple[int, int] = (7, 7), cond_dim: int = 4
) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return torch.randn(count, 3, *size), torch.rand(count), Condition(torch.randn(count, cond_dim))


@given(size=st.tuples(st.integers(1, 11), st.integers(1, 11)), patch_size=st.integers(1, 4), cond_dim=st.integers(0, 3))
def test_the_prediction_has_the_latents_shape_at_any_size_and_patch_size(awake, size, patch_size, cond_dim):
    assume(patch_size <= max(size))
    network = awake(_dit(size, patch_size=patch_size, cond_dim=cond_dim))
    prediction = network(*_inputs(2, size, cond_dim))
    assert prediction.shape == (2, 3, *size)
    assert prediction.isfinite().all()


def test_a_new_dit_predicts_exactly_zero_and_its_blocks_are_the_identity():
    network = _dit()
    assert torch.equal(network(*_inputs(2)), torch.zeros(2, 3, 7, 7))
    h = torch.randn(2, 16, 16)
    assert torch.equal(network.blocks[0](h, torch.randn(2, 16)), h)


def test_the_small_model_of_the_paper_has_its_number_of_parameters():
    with torch.device("meta"):  # counts without memory
        network = DiT((4, 32, 32), cond_dim=1000, patch_size=2, width=384, depth=12, heads=6)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(33.0e6, rel=0.01)  # table 1


def test_a_block_equals_the_one_of_diffusers(awake):
    reference = awake(
        BasicTransformerBlock(
            16,
            num_attention_heads=2,
            attention_head_dim=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=5,
            norm_type="ada_norm_zero",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        )
    ).eval()
    block, attention, feed_forward = _AdaLNZeroBlock(16, heads=2), reference.attn1, reference.ff.net
    block.modulation.load_state_dict(reference.norm1.linear.state_dict())
    with torch.no_grad():
        block.qkv.weight.copy_(torch.cat([attention.to_q.weight, attention.to_k.weight, attention.to_v.weight]))
        block.qkv.bias.copy_(torch.cat([attention.to_q.bias, attention.to_k.bias, attention.to_v.bias]))
    block.mix.load_state_dict(attention.to_out[0].state_dict())
    block.mlp[0].load_state_dict(feed_forward[0].proj.state_dict())
    block.mlp[2].load_state_dict(feed_forward[2].state_dict())
    h, t, label = torch.randn(3, 6, 16), torch.tensor([1, 500, 999]), torch.tensor([0, 3, 4])
    embedded = F.silu(reference.norm1.emb(t, label, hidden_dtype=torch.float32))
    torch.testing.assert_close(block(h, embedded), reference(h, timestep=t, class_labels=label), atol=1e-5, rtol=1e-5)


def test_positions_equal_those_of_diffusers():
    torch.testing.assert_close(
        sin_cos_positions(5, 5, 32), get_2d_sincos_pos_embed(32, 5, base_size=5, output_type="pt").float()
    )


def test_on_a_map_that_is_not_square_each_position_encodes_its_row_and_its_column():
    columns, rows = sin_cos_positions(3, 4, 16).reshape(3, 4, 16).split(8, dim=2)
    assert torch.equal(columns, columns[:1].expand(3, -1, -1))
    assert torch.equal(rows, rows[:, :1].expand(-1, 4, -1))
    every = sin_cos_positions(3, 4, 16)
    assert (torch.cdist(every, every) + 10 * torch.eye(12)).min() > 0.5


def test_a_patch_is_predicted_where_it_lies():
    """Without blocks the network works on each patch alone."""
    network = _dit((4, 6), depth=0)
    torch.nn.init.normal_(network.out.weight)
    z, t, condition = _inputs(1, (4, 6))
    changed = z.clone()
    changed[..., 2:4, 4:6] += 1
    moved = (network(z, t, condition) != network(changed, t, condition)).any(dim=1)[0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(moved, expected)


def test_padding_reaches_the_prediction_as_zeros(awake):
    small, large = awake(_dit((3, 5))), _dit((4, 6))
    large.load_state_dict(small.state_dict())  # positions of 2x3 patches in both
    z, t, condition = _inputs(2, (3, 5))
    torch.testing.assert_close(small(z, t, condition), large(F.pad(z, (0, 1, 0, 1)), t, condition)[..., :3, :5])


def test_time_and_every_entry_of_the_condition_and_the_position_in_the_map_matter(awake):
    network = awake(_dit())
    z, t, condition = _inputs(1)
    base = network(z, t, condition)
    assert not torch.allclose(base, network(z, t + 0.1, condition))
    assert not torch.allclose(base, network(z.flip(-1), t, condition).flip(-1))
    assert not torch.allclose(base, network(z.flip(-2), t, condition).flip(-2))
    for entry in torch.eye(4):
        assert not torch.allclose(base, network(z, t, Condition(condition.vector + entry)))


def test_each_image_is_predicted_alone_whatever_the_order_of_the_batch(awake):
    network = awake(_dit())
    z, t, condition = _inputs(4)
    together = network(z, t, condition)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        network(z[order], t[order], condition.rows(order)), together[order], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        network(z[1:2], t[1:2], condition.rows(slice(1, 2)))[0], together[1], atol=1e-4, rtol=1e-4
    )
    assert torch.equal(network(z, t, condition), together)


def test_every_parameter_learns(awake):
    network = awake(_dit())
    network(*_inputs(16)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("width", "heads"), [(18, 2), (16, 3)])
def test_a_width_that_cannot_be_is_refused_with_both_settings(width, heads):
    expected = rf"divisible by 4 and by denoiser\.heads \({heads}\)"
    with pytest.raises(UserError, match=rf"^denoiser\.width \({width}\) must be {expected}; change one of them$"):
        _dit(width=width, heads=heads)


def test_a_patch_larger_than_the_map_is_refused_with_the_largest():
    with pytest.raises(UserError, match=r"^denoiser\.patch_size \(8\) must be at most 7 for latents of 7x5; lower it$"):
        _dit((7, 5), patch_size=8)


def test_the_registry_builds_a_dit_for_maps_and_refuses_vectors():
    params = {"cond_dim": 0, "patch_size": 1, "width": 8, "depth": 1, "heads": 1}
    assert isinstance(build_denoiser("dit", latent_shape=[3, 7, 7], **params), DiT)
    with pytest.raises(
        UserError, match=r"^denoiser\.name \(dit\) must be mlp for latents of shape \(64,\); set it to mlp$"
    ):
        build_denoiser("dit", latent_shape=[64], **params)
