"""The U-Net takes maps of any size, and its prediction depends on time, condition and position."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.nn.blocks import SelfAttention2d
from latentline.nn.unet import UNet


def _unet(size: tuple[int, int] = (7, 7), **changes) -> UNet:
    return UNet(
        **{
            "latent_shape": (3, *size),
            "cond_dim": 4,
            "channels": [16, 32],
            "blocks": 1,
            "attention_levels": [1],
            **changes,
        }
    )


def _inputs(
    count: int, size: tuple[int, int] = (7, 7), cond_dim: int = 4
) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return torch.randn(count, 3, *size), torch.rand(count), Condition(torch.randn(count, cond_dim))


@pytest.mark.parametrize("size", [(7, 7), (5, 9), (1, 1), (28, 28), (2, 3)])
def test_the_prediction_has_the_latents_shape_at_any_size(awake, size):
    prediction = awake(_unet(size))(*_inputs(2, size))
    assert prediction.shape == (2, 3, *size)
    assert prediction.isfinite().all()


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels=st.lists(st.sampled_from([8, 16, 24]), min_size=1, max_size=3),
    blocks=st.integers(1, 2),
    attention=st.booleans(),
    cond_dim=st.integers(0, 3),
    patch_size=st.integers(1, 3),
    embedding_width=st.sampled_from([None, 8]),
)
def test_any_number_of_levels_and_blocks_and_any_condition_fits_any_size(
    size, channels, blocks, attention, cond_dim, patch_size, embedding_width
):
    levels = list(range(len(channels))) if attention else []
    folding = {"patch_size": patch_size, "embedding_width": embedding_width}
    network = _unet(size, cond_dim=cond_dim, channels=channels, blocks=blocks, attention_levels=levels, **folding)
    assert network(*_inputs(2, size, cond_dim)).shape == (2, 3, *size)


@pytest.mark.parametrize(("width", "heads"), [(24, 1), (32, 1), (64, 2), (96, 3), (40, 1), (104, 1)])
def test_attention_has_heads_of_32_channels_where_they_divide_the_width_and_else_one(width, heads):
    network = _unet(channels=[width], attention_levels=[0])
    assert {module.heads for module in network.modules() if isinstance(module, SelfAttention2d)} == {heads}
    assert network(*_inputs(1)).shape == (1, 3, 7, 7)


def test_patches_are_folded_before_the_first_convolution_and_unfolded_after_the_last(awake):
    folded, plain = awake(_unet((5, 6), patch_size=2)), _unet((3, 3), latent_shape=(12, 3, 3))
    plain.load_state_dict(folded.state_dict())
    z, t, condition = _inputs(2, (5, 6))
    filled = torch.cat([z, torch.zeros(2, 3, 1, 6)], dim=2)  # (B, 3, 6, 6)
    patches = filled.reshape(2, 3, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 3, 3)
    expected = plain(patches, t, condition).reshape(2, 3, 2, 2, 3, 3).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 6, 6)
    torch.testing.assert_close(folded(z, t, condition), expected[:, :, :5])


def test_a_new_unet_predicts_exactly_zero():
    assert torch.equal(_unet()(*_inputs(2)), torch.zeros(2, 3, 7, 7))


def test_an_images_prediction_does_not_depend_on_the_rest_of_its_batch(awake):
    network = awake(_unet()).eval()
    z, t, condition = _inputs(4)
    together = network(z, t, condition)
    for index in range(4):
        rows = slice(index, index + 1)
        alone = network(z[rows], t[rows], condition.rows(rows))
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-4)


def test_time_and_condition_and_position_in_the_map_all_matter(awake):
    network = awake(_unet())
    z, t, condition = _inputs(1)
    base = network(z, t, condition)
    assert not torch.allclose(base, network(z, t + 0.1, condition))
    for entry in torch.eye(4):
        assert not torch.allclose(base, network(z, t, Condition(condition.vector + entry)))
    assert not torch.allclose(base, network(z.flip(-1), t, condition).flip(-1))


def test_after_a_few_steps_the_null_condition_differs_from_every_class():
    network = _unet()
    classes = torch.eye(5)[:, :4]  # one-hot classes, then the null condition
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(4):
        z, t, _ = _inputs(16)
        label = torch.randint(0, 5, (16,))  # 4 = null
        (network(z, t, Condition(classes[label])) - label[:, None, None, None]).square().mean().backward()
        adam.step()
        adam.zero_grad()
    z, t, _ = _inputs(1)
    by_label = network(z.expand(5, -1, -1, -1), t.expand(5), Condition(classes)).flatten(1)
    assert (torch.cdist(by_label[:4], by_label[4:])).min() > 1e-4


def test_every_parameter_learns(awake):
    network = awake(_unet())
    network(*_inputs(16)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_channels_last_gives_the_same_numbers(awake):
    network = awake(_unet())
    z, t, condition = _inputs(3)
    expected = network(z, t, condition)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        network(z.contiguous(memory_format=torch.channels_last), t, condition), expected, atol=1e-4, rtol=1e-4
    )


def test_the_registry_builds_the_network_it_names():
    built = build_denoiser("unet", latent_shape=[3, 7, 7], cond_dim=4, channels=[16], blocks=1, attention_levels=[])
    assert isinstance(built, UNet)
    assert built(*_inputs(2)).shape == (2, 3, 7, 7)


def test_a_null_condition_is_a_vector_of_zeros(awake):
    network = awake(_unet())
    z, t, condition = _inputs(2)
    assert torch.equal(network(z, t, condition.null()), network(z, t, Condition(torch.zeros(2, 4))))
