"""Attention to captions equals torch's own, ignores padding, and does not mix the examples of a batch."""

import pytest
import torch
from torch import nn

from latentline.nn.cross_attention import CrossAttention, CrossAttention2d
from latentline.nn.text_encoder import TextEncoder

MASK = torch.tensor([[True, True, False, True], [True, False, False, False]])


@pytest.fixture
def attention(awake) -> CrossAttention:
    return awake(CrossAttention(8, 6, 2))


def _torchs(attention: CrossAttention) -> nn.MultiheadAttention:
    """Torch's layer with the same weights."""
    layer = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    key, value = attention.key_value.weight.chunk(2)
    bias = torch.cat([attention.query.bias, attention.key_value.bias])
    layer.load_state_dict(
        {
            "q_proj_weight": attention.query.weight,
            "k_proj_weight": key,
            "v_proj_weight": value,
            "in_proj_bias": bias,
            "out_proj.weight": attention.out.weight,
            "out_proj.bias": attention.out.bias,
        }
    )
    return layer


def test_it_equals_torchs_attention(attention):
    x, states = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    expected, _ = _torchs(attention)(x, states, states, key_padding_mask=~MASK)
    torch.testing.assert_close(attention(x, states, MASK), expected)


def test_it_equals_the_formula(attention):
    x, states = torch.randn(1, 5, 8), torch.randn(1, 4, 6)
    key, value = attention.key_value(states).chunk(2, dim=-1)
    mixed = []
    for part in (slice(0, 4), slice(4, 8)):  # the two heads
        scores = attention.query(x)[..., part] @ key[..., part].transpose(1, 2) / 2  # sqrt(4)
        mixed.append(scores.masked_fill(~MASK[:1, None], -torch.inf).softmax(dim=-1) @ value[..., part])
    torch.testing.assert_close(attention(x, states, MASK[:1]), attention.out(torch.cat(mixed, dim=-1)))


def test_masked_states_change_nothing(attention):
    x, states = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    other = torch.where(MASK[..., None], states, 100 * torch.randn(2, 4, 6))
    assert torch.equal(attention(x, states, MASK), attention(x, other, MASK))


def test_a_batch_and_its_rows_agree(attention):
    x, states = torch.randn(2, 5, 8), torch.randn(2, 4, 6)
    rows = [attention(x[row : row + 1], states[row : row + 1], MASK[row : row + 1]) for row in range(2)]
    torch.testing.assert_close(attention(x, states, MASK), torch.cat(rows))


def test_a_new_layer_adds_nothing():
    x, states = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6)
    assert torch.equal(CrossAttention2d(8, 6, 2)(x, states, MASK), x)


def test_positions_of_a_map_attend_each_for_itself(awake):
    layer = awake(CrossAttention2d(8, 6, 2, norm=lambda channels: nn.Identity()))
    x, states = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6)
    one = layer(x[:, :, 1:2, 3:4], states, MASK)
    torch.testing.assert_close(layer(x, states, MASK)[:, :, 1:2, 3:4], one)


@pytest.fixture
def encoder(awake) -> TextEncoder:
    return awake(TextEncoder(num_ids=9, length=4, width=8, depth=2, heads=2))


def test_the_text_encoder_ignores_padding_and_other_examples(encoder):
    tokens = torch.tensor([[3, 5, 0, 0], [8, 1, 2, 4]], dtype=torch.int32)
    states, mask = encoder(tokens, tokens != 0)
    assert (states.shape, mask.tolist()) == ((2, 5, 8), [[True, True, True, False, False], [True] * 5])
    other = torch.tensor([[3, 5, 7, 7]], dtype=torch.int32)
    alone, _ = encoder(other, tokens[:1] != 0)
    torch.testing.assert_close(alone[:, :3], states[:1, :3])


def test_the_text_encoder_reads_ids_and_their_order(encoder):
    def null_state(*ids: int) -> torch.Tensor:
        tokens = torch.tensor([ids])
        return encoder(tokens, tokens != 0)[0][0, 0]

    assert not torch.allclose(null_state(3, 5, 0, 0), null_state(5, 3, 0, 0))
    assert not torch.allclose(null_state(3, 0, 0, 0), null_state(0, 0, 0, 0))


def test_an_empty_caption_has_the_learned_null_token_alone(encoder):
    tokens = torch.zeros(1, 4, dtype=torch.int32)
    states, mask = encoder(tokens, tokens != 0)
    assert mask.tolist() == [[True, False, False, False, False]]
    states[0, 0].sum().backward()
    assert encoder.null.grad.abs().sum() > 0
    assert encoder.embedding.weight.grad.abs().sum() == 0
