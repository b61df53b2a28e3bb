"""The settings in which LightningDiT differs from DiT, against plain formulae; and DiT's published sizes."""

import math

import pytest
import torch

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.dit import DiT, _AdaLNZeroBlock
from latentline.nn.embeddings import TimeFeatures
from latentline.nn.transformer import SwiGLU, rotary_positions, rotate
from support.published_dit import PublishedDiT

PUBLISHED = {"latent_shape": (4, 32, 32), "patch_size": 2, "time_features": 256, "learn_sigma": True}
SIZES = {  # name -> sizes, parameters in table 1 of the paper
    "DiT-B/2": ({"width": 768, "depth": 12, "heads": 12}, 130e6),
    "DiT-XL/2": ({"width": 1152, "depth": 28, "heads": 16}, 675e6),
}
NEWER = {"norm": "rms", "mlp": "swiglu", "rope": True, "qk_norm": True, "time_features": 16, "time_scale": 1.0}


def _small(**changes) -> DiT:
    sizes = {"latent_shape": (3, 7, 5), "cond_dim": 4, "patch_size": 2, "width": 16, "depth": 2, "heads": 2}
    return DiT(**{**sizes, **changes})


@pytest.mark.parametrize("name", SIZES)
def test_a_published_size_has_the_parameters_of_the_authors_network_but_for_the_null_class(name):
    sizes, in_paper = SIZES[name]
    with torch.device("meta"):  # counts without memory
        ours = DiT(**PUBLISHED, **sizes, cond_dim=1000)
        theirs = PublishedDiT(channels=4, side=32, classes=1000, **sizes)
    counts = [sum(p.numel() for p in network.parameters() if p.requires_grad) for network in (ours, theirs)]
    assert counts[0] == counts[1] - sizes["width"] == pytest.approx(in_paper, rel=0.003)


def test_time_features_have_the_frequencies_of_the_paper():
    t = torch.tensor([0.25, 1.0])
    angles = 1000 * t[:, None] / 10000 ** (torch.arange(128) / 128)  # (2, 128)
    expected = torch.cat([angles.sin(), angles.cos()], dim=1)
    torch.testing.assert_close(TimeFeatures(256, scale=1000.0)(t), expected, atol=1e-3, rtol=0)


def test_unused_outputs_for_sigma_change_no_prediction_and_get_no_gradient(awake):
    plain, network = awake(_small()), _small(learn_sigma=True)
    tensors = plain.state_dict()
    extra = {name: torch.cat([tensors[name], torch.randn(tensors[name].shape)]) for name in ("out.weight", "out.bias")}
    network.load_state_dict({**tensors, **extra})
    inputs = torch.randn(2, 3, 7, 5), torch.rand(2), Condition(torch.randn(2, 4))
    torch.testing.assert_close(network(*inputs), plain(*inputs), atol=1e-6, rtol=1e-5)
    network(*inputs).square().sum().backward()
    used, unused = network.out.weight.grad.chunk(2)
    assert used.abs().sum() > 0
    assert not unused.any()


def test_swiglu_is_a_product_of_two_projections_one_gated_by_silu():
    layer, x = SwiGLU(8, 12), torch.randn(2, 3, 8)
    gate, value = (x @ part.T for part in layer.gate_and_value.weight.chunk(2))
    bias_of_gate, bias_of_value = layer.gate_and_value.bias.chunk(2)
    gate, value = gate + bias_of_gate, value + bias_of_value
    expected = (gate / (1 + (-gate).exp()) * value) @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x), expected)


def test_swiglu_costs_as_many_weights_as_gelu():
    gelu, swiglu = (sum(p.numel() for p in _small(mlp=mlp, width=48).parameters()) for mlp in ("gelu", "swiglu"))
    assert swiglu == pytest.approx(gelu, rel=0.01)


def test_rotation_multiplies_pairs_as_complex_numbers_by_the_row_and_the_column():
    x = torch.randn(2, 3 * 4, 8)  # of a map of 3 rows and 4 columns
    pairs = torch.view_as_complex(x.clone().unflatten(-1, (4, 2)))  # (2, 12, 4)
    for index in range(12):
        row, column = divmod(index, 4)
        angles = torch.tensor([row, row / 100, column, column / 100])  # 10000^(-1/2) = 1/100
        pairs[:, index] *= torch.polar(torch.ones(4), angles)
    expected = torch.view_as_real(pairs).flatten(-2)
    torch.testing.assert_close(rotate(x, rotary_positions(3, 4, 8)), expected, atol=1e-5, rtol=1e-5)


def test_after_rotation_a_product_depends_on_the_distance_alone():
    q, k, rotation = torch.randn(16), torch.randn(16), rotary_positions(5, 6, 16)
    products = rotate(q.expand(30, 16), rotation) @ rotate(k.expand(30, 16), rotation).T  # (30, 30)
    torch.testing.assert_close(products[0, 8], products[7, 15], atol=1e-5, rtol=1e-5)  # one row and two columns apart
    assert not torch.allclose(products[0, 8], products[0, 9], atol=1e-3)


def test_a_block_with_every_setting_equals_its_formulae(awake):
    width, heads, n = 16, 2, 6
    block = awake(_AdaLNZeroBlock(width, heads, qk_norm=True, norm="rms", mlp="swiglu"))
    h, embedded, rotation = torch.randn(3, n, width), torch.randn(3, width), rotary_positions(2, 3, width // heads)

    def rms(x, layer):
        return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * layer.weight

    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(embedded)[:, None].chunk(6, dim=2)
    qkv = block.qkv(rms(h, block.norm_1) * (1 + scale_1) + shift_1)
    q, k, v = qkv.unflatten(2, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
    q, k = rotate(rms(q, block.norm_q), rotation), rotate(rms(k, block.norm_k), rotation)
    attention = (q @ k.mT / math.sqrt(width // heads)).softmax(dim=-1) @ v
    middle = h + gate_1 * block.mix(attention.transpose(1, 2).flatten(2))
    expected = middle + gate_2 * block.mlp(rms(middle, block.norm_2) * (1 + scale_2) + shift_2)
    torch.testing.assert_close(block(h, embedded, rotation), expected, atol=1e-5, rtol=1e-4)


def test_queries_and_keys_are_normalised_by_layer_norm_where_tokens_are(awake):
    block = awake(_AdaLNZeroBlock(16, 2, qk_norm=True))
    h, embedded = torch.randn(3, 6, 16), torch.randn(3, 16)
    before = block(h, embedded)
    scaled = block.qkv.weight.detach().clone()
    scaled[:32] *= 50  # queries and keys, but not values
    block.qkv.weight.data, block.qkv.bias.data[:32] = scaled, 50 * block.qkv.bias.data[:32]
    torch.testing.assert_close(block(h, embedded), before, atol=1e-3, rtol=1e-3)


def test_with_every_setting_a_new_network_predicts_zero_and_every_parameter_learns(awake):
    inputs = torch.randn(16, 3, 7, 5), torch.rand(16), Condition(torch.randn(16, 4))
    network = _small(**NEWER)
    assert not network(*inputs).any()
    awake(network)(*inputs).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_rotary_positions_need_four_channels_for_each_pair_of_axes():
    expected = r"denoiser\.width \(12\) must be divisible by 4 times denoiser\.heads \(2\) with denoiser\.rope; change"
    with pytest.raises(UserError, match=expected):
        _small(width=12, rope=True)
