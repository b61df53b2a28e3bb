"""Published DiT and SiT weights: the network that takes them predicts and samples what the authors' network does."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.dit import DiT
from latentline.diffusion.euler import euler
from latentline.diffusion.process import build_process, conditional_model
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.vp import linear_betas
from latentline.interop.published_dit import CONVENTIONS, from_published, published_names, published_settings
from latentline.samplers.ddim import ddim
from support.published_dit import CLASSES, PublishedDiT

DIT, SIT = ("vp_linear", "epsilon"), ("flow", "velocity")
LABELS = torch.tensor([0, 3, CLASSES - 1, CLASSES])  # the last is the null condition


def _condition() -> Condition:
    return Condition(torch.eye(CLASSES + 1)[LABELS, :CLASSES])


def _ours(tensors: dict[str, Tensor], process: tuple[str, str]) -> DiT:
    convention = CONVENTIONS[process]
    network = DiT(**{"heads": 4, "latent_shape": (3, 8, 8)} | published_settings(tensors), time_scale=convention.scale)
    from_published(network, tensors, convention)
    return network.eval()


@torch.no_grad()
def test_a_dit_predicts_the_noise_that_the_authors_network_predicts():
    theirs = PublishedDiT()
    x, steps = torch.randn(4, 3, 8, 8), torch.tensor([0.0, 17.0, 600.0, 999.0])
    expected = theirs(x, steps, LABELS)[:, :3]
    predicted = _ours(theirs.state_dict(), DIT)(x, (steps + 1) / 1000, _condition())
    assert expected.std() > 0.1
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sit_predicts_the_authors_velocity_with_our_time_and_sign():
    theirs = PublishedDiT()
    x, t = torch.randn(4, 3, 8, 8), torch.tensor([0.0, 0.3, 0.7, 1.0])
    expected = -theirs(x, 1 - t, LABELS)[:, :3]
    predicted = _ours(theirs.state_dict(), SIT)(x, t, _condition())
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sample_of_a_dit_equals_one_by_the_authors_definition():
    """DDIM on a tenth of the steps (Song et al., arXiv 2010.02502, eq. 12), written with indices of DDPM's schedule."""
    theirs = PublishedDiT()
    noise, alpha_bar = torch.randn(4, 3, 8, 8), (1 - linear_betas()).cumprod(dim=0).float()
    x = noise
    indices = [*range(999, -1, -100)]
    for now, after in zip(indices, [*indices[1:], None], strict=True):
        eps = theirs(x, torch.full((4,), float(now)), LABELS)[:, :3]
        x0 = (x - (1 - alpha_bar[now]).sqrt() * eps) / alpha_bar[now].sqrt()
        kept = 1.0 if after is None else alpha_bar[after]
        x = kept**0.5 * x0 + (1 - kept) ** 0.5 * eps
    model = conditional_model(_ours(theirs.state_dict(), DIT), build_process(*DIT), _condition())
    times = torch.tensor([(index + 1) / 1000 for index in indices] + [0.0])
    torch.testing.assert_close(ddim(model, noise, times, noise_fn=lambda step: noise), x, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_sample_of_a_sit_equals_one_by_the_authors_definition():
    """Euler's method on dx/ds = velocity(x, s), from noise at s = 0 to data at s = 1 (arXiv 2401.08740, eq. 2)."""
    theirs, noise = PublishedDiT(), torch.randn(4, 3, 8, 8)
    x = noise
    for step in range(10):
        x = x + theirs(x, torch.full((4,), step / 10), LABELS)[:, :3] / 10
    model = conditional_model(_ours(theirs.state_dict(), SIT), build_process(*SIT), _condition())
    torch.testing.assert_close(euler(model, noise, time_grid(10)), x, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_folder_of_diffusers_holds_the_same_network():
    """Diffusers spaces the frequencies of the time by 1/127 instead of the authors' 1/128, which this test undoes."""
    theirs = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
        norm_num_groups=1,
    ).eval()
    for name, parameter in theirs.named_parameters():
        shared = name.replace("transformer_blocks.1.norm1.emb", "transformer_blocks.0.norm1.emb")
        parameter.copy_(theirs.get_parameter(shared) if shared != name else 0.1 * torch.randn(parameter.shape))
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    x, steps = torch.randn(4, 3, 8, 8), torch.tensor([0, 17, 600, 999])
    expected = theirs(x, timestep=steps, class_labels=LABELS).sample[:, :3]
    ours = _ours(published_names(theirs.state_dict()), DIT)
    torch.testing.assert_close(ours(x, (steps + 1) / 1000, _condition()), expected, atol=1e-5, rtol=1e-4)
    changed = {**theirs.state_dict()}
    changed["transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    with pytest.raises(ValueError, match="must be the same in every block"):
        published_names(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.attn.proj.bias": None}, r"blocks\.1\.attn\.proj\.bias is missing"),
        ({"x_embedder.proj.weight": None}, r"x_embedder\.proj\.weight is missing"),
        ({"extra": torch.zeros(1)}, "extra belongs to no layer"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(5, 5)}, r"shape of blocks\.0\.qkv\.weight, \(5, 5\), must be"),
        ({"final_layer.linear.weight": torch.zeros(7, 32)}, r"rows of final_layer\.linear\.weight \(7\) must be 12"),
        ({"pos_embed": torch.zeros(1, 16, 32)}, "pos_embed must hold the sines and cosines"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_weights_that_do_not_fit_are_refused(change, message):
    tensors = {**PublishedDiT().state_dict(), **change}
    with pytest.raises(ValueError, match=message):
        _ours({name: value for name, value in tensors.items() if value is not None}, DIT)
