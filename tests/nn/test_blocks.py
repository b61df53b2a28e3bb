"""Residual blocks, attention and resampling: new ones are the identity, and any map size works."""

import math

import pytest
import torch
import torch.nn.functional as F

from latentline.nn.blocks import Downsample, ResBlock, SelfAttention2d, Upsample, group_norm


def test_a_new_residual_block_is_the_identity():
    x = torch.randn(2, 16, 5, 3)
    assert torch.equal(ResBlock(16, 16)(x), x)
    assert torch.equal(ResBlock(16, 16, condition_channels=4)(x, torch.randn(2, 4)), x)


def test_a_new_residual_block_that_changes_the_width_is_its_skip_convolution():
    x = torch.randn(2, 16, 5, 3)
    block = ResBlock(16, 24)
    assert torch.equal(block(x), block.skip(x))


def test_a_residual_block_is_norm_silu_conv_twice_plus_the_input(awake):
    x, condition = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    block = awake(ResBlock(8, 8, condition_channels=5))
    h = block.conv_in(F.silu(F.group_norm(x, 8, block.norm_in.weight, block.norm_in.bias)))
    h = F.group_norm(h, 8, block.norm_out.weight, block.norm_out.bias)
    scale, shift = F.linear(condition, block.modulation.weight, block.modulation.bias).split(8, dim=1)
    h = h * (1 + scale[..., None, None]) + shift[..., None, None]
    torch.testing.assert_close(block(x, condition), x + block.conv_out(F.silu(h)))


def test_a_conditional_block_without_its_condition_is_refused():
    with pytest.raises(ValueError, match=r"condition \(None\) must be a tensor"):
        ResBlock(8, 8, condition_channels=4)(torch.randn(1, 8, 2, 2))


def test_new_attention_is_the_identity():
    x = torch.randn(2, 64, 3, 5)
    assert torch.equal(SelfAttention2d(64, 2)(x), x)


@pytest.mark.parametrize(
    ("channels", "heads", "size"), [(32, 1, (4, 4)), (64, 2, (3, 5)), (8, 1, (1, 1)), (96, 3, (2, 7))]
)
def test_attention_is_the_softmax_average_of_the_values_head_by_head(awake, channels, heads, size):
    x = torch.randn(2, channels, *size)
    attention = awake(SelfAttention2d(channels, heads))
    expected = torch.empty_like(x).flatten(2)
    qkv = F.conv2d(attention.norm(x), attention.qkv.weight, attention.qkv.bias).flatten(2)  # (B, 3C, N)
    width = channels // heads
    for image in range(2):
        for head in range(heads):
            q, k, v = (qkv[image, part * channels + head * width :][:width] for part in range(3))  # (width, N) each
            weights = torch.softmax(q.T @ k / math.sqrt(width), dim=1)  # (N, N), each row sums to 1
            expected[image, head * width : (head + 1) * width] = (weights @ v.T).T
    expected = x + F.conv2d(expected.reshape(x.shape), attention.out.weight, attention.out.bias)
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_heads_can_be_chosen(awake):
    one, four = (awake(SelfAttention2d(64, heads)) for heads in (1, 4))
    four.load_state_dict(one.state_dict())
    x = torch.randn(1, 64, 2, 3)
    assert not torch.allclose(one(x), four(x), atol=1e-3)
    qkv = F.conv2d(four.norm(x), four.qkv.weight, four.qkv.bias).reshape(3, 4, 16, 6)
    reference = F.scaled_dot_product_attention(*qkv.transpose(-1, -2)).transpose(-1, -2).reshape(1, 64, 2, 3)
    torch.testing.assert_close(four(x), x + four.out(reference))


def test_causal_attention_reads_no_later_position_row_by_row(awake):
    attention = awake(SelfAttention2d(16, 1, causal=True))
    attention.norm = torch.nn.Identity()  # the norm alone would carry information about other positions
    x = torch.randn(1, 16, 2, 3)
    later = x.clone()
    later[..., 1, 1] += 10  # the fifth of six positions
    changed = (attention(later) - attention(x)).abs().amax(dim=1).flatten() > 1e-6
    assert changed.tolist() == [False, False, False, False, True, True]
    free = SelfAttention2d(16, 1)
    free.load_state_dict(attention.state_dict(), strict=False)
    assert not torch.allclose(free(x), attention(x), atol=1e-3)


def test_blocks_take_the_normalisation_they_are_given():
    def norm(channels: int) -> torch.nn.GroupNorm:
        return group_norm(channels, groups=2, eps=0.1)

    block, attention = ResBlock(16, 24, norm=norm), SelfAttention2d(16, 1, norm=norm)
    for layer in (block.norm_in, block.norm_out, attention.norm):
        assert (layer.num_groups, layer.eps) == (2, 0.1)


def test_attention_does_not_depend_on_the_order_of_positions(awake):
    attention = awake(SelfAttention2d(32, 1))
    x = torch.randn(1, 32, 2, 6)
    order = torch.randperm(12)
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(
        attention(shuffled).flatten(2), attention(x).flatten(2)[..., order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (1, 6)])
def test_downsampling_halves_rounding_up_and_upsampling_comes_back_to_the_size_asked_for(size):
    x = torch.randn(2, 8, *size)
    small = Downsample(8, 16)(x)
    assert small.shape == (2, 16, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
    assert Upsample(16, 8)(small, size).shape == x.shape


def test_upsampling_repeats_the_nearest_position():
    up = Upsample(8, 8)
    x = torch.randn(1, 8, 2, 3)
    torch.testing.assert_close(up(x, (4, 6)), up.conv(x).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def test_group_normalisation_normalises_each_image_alone():
    x = torch.randn(3, 16, 4, 4)
    mixed = torch.cat([x[:1], 100 * torch.randn(5, 16, 4, 4)])
    torch.testing.assert_close(group_norm(16)(x)[0], group_norm(16)(mixed)[0], atol=1e-5, rtol=1e-5)
    grouped = group_norm(16)(x).reshape(3, 8, -1)
    torch.testing.assert_close(grouped.mean(dim=2), torch.zeros(3, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(grouped.var(dim=2, correction=0), torch.ones(3, 8), atol=1e-3, rtol=0)
