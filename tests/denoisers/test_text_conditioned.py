"""Denoisers conditioned on captions: padding and other examples change nothing, and a short training obeys words."""

import pytest
import torch
from torch import Tensor, nn

from latentline.core.condition import Condition, concatenate
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.denoisers.build import build_denoiser, graph_modules
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.objective import denoising_loss, sample_times
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.latents.tokenizer import train_tokenizer
from support.small_networks import DENOISERS, awake

COLOURS = ("red", "green", "blue")
CAPTIONS = [f"a {colour} {shape}" for colour in COLOURS for shape in ("square", "circle")]
TOKENIZER = train_tokenizer(CAPTIONS * 10, 300, 6)
CONDITIONING = Conditioning((), TOKENIZER)
TEXT = {"num_ids": TOKENIZER.num_ids, "length": 6, "width": 16, "depth": 1, "heads": 2}
PROCESS = build_process("flow", "velocity")
each_network = pytest.mark.parametrize("name", DENOISERS)


def _condition(*captions: str) -> Condition:
    return CONDITIONING.encode(LabelTable((), torch.empty(len(captions), 0)), TOKENIZER.encode(captions))


def _small(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network without layers of zeros, two latents and their times."""
    network = awake(build_denoiser(name, cond_dim=0, text=TEXT, **DENOISERS[name]))
    return network, torch.randn(2, *DENOISERS[name]["latent_shape"]), torch.rand(2)


@each_network
def test_captions_and_their_words_order_change_the_prediction(name):
    network, z, t = _small(name)
    one = network(z, t, _condition("a red square", "a blue circle"))
    assert not torch.allclose(one, network(z, t, _condition("a blue square", "a blue circle")))
    assert not torch.allclose(one, network(z, t, _condition("square red a", "a blue circle")))


@each_network
def test_what_is_masked_changes_nothing(name):
    network, z, t = _small(name)
    condition = _condition("a red square", "a blue circle")
    assert condition.tokens is not None
    assert condition.mask is not None
    other = condition._replace(tokens=condition.tokens.masked_fill(~condition.mask, 7))
    torch.testing.assert_close(network(z, t, condition), network(z, t, other))


@each_network
def test_a_batch_and_its_rows_agree(name):
    network, z, t = _small(name)
    condition = _condition("a red square", "a")
    rows = [network(z[row], t[row], condition.rows(row)) for row in (slice(1), slice(1, 2))]
    torch.testing.assert_close(network(z, t, condition), torch.cat(rows))


@each_network
def test_the_empty_caption_the_dropped_one_and_the_null_condition_are_one(name):
    network, z, t = _small(name)
    condition = _condition("a red square", "a blue circle")
    null = network(z, t, CONDITIONING.null(2))
    for other in (_condition("", ""), condition.null(), condition.dropped(torch.tensor([True, True]))):
        torch.testing.assert_close(network(z, t, other), null)
    assert not torch.allclose(network(z, t, condition), null)


@each_network
def test_a_caption_is_encoded_once_for_all_steps_of_a_sampler(name, monkeypatch):
    network, z, t = _small(name)
    condition = _condition("a red square", "a blue circle")
    expected = network(torch.cat([z, z]), torch.cat([t, t]), concatenate([condition, condition.null()]))
    model = guided_model(network, PROCESS, condition, Guidance(2.0))
    monkeypatch.setattr(network.text, "forward", lambda *_: pytest.fail("encoded again"))
    cond, uncond = expected.chunk(2)
    torch.testing.assert_close(model.output(z, t), uncond + 2 * (cond - uncond))


@each_network
def test_guidance_leads_away_from_a_negative_caption(name):
    network, z, t = _small(name)
    condition, negative = _condition("a red square", "a blue circle"), _condition("a green circle", "a green circle")
    away = network(z, t, negative)
    expected = away + 3 * (network(z, t, condition) - away)
    guided = guided_model(network, PROCESS, condition, Guidance(3.0), negative).output(z, t)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


@each_network
def test_a_new_network_has_a_plain_one_within(name):
    torch.manual_seed(3)
    network = build_denoiser(name, cond_dim=3, text=TEXT, **DENOISERS[name])
    plain = build_denoiser(name, cond_dim=3, **DENOISERS[name])
    within = set(network.network.state_dict())
    assert within >= set(plain.state_dict())
    assert len(graph_modules(network)) == 1 + len(graph_modules(plain))


def test_tokens_without_a_mask_are_refused():
    network, z, t = _small("mlp")
    with pytest.raises(ValueError, match=r"^condition \(no tokens, or no mask\) must have both; "):
        network(z, t, Condition(torch.zeros(2, 0)))


def test_a_unet_without_attention_cannot_read_captions():
    message = (
        r"^denoiser.attention_levels \(\[\]\) must name a level for a unet that is conditioned on captions; set it"
    )
    with pytest.raises(UserError, match=message):
        build_denoiser("unet", cond_dim=0, text=TEXT, **{**DENOISERS["unet"], "attention_levels": []})


TOYS = {
    "unet": {"latent_shape": (3, 3, 3), "channels": [8], "blocks": 1, "attention_levels": [0]},
    "dit": {"latent_shape": (3, 3, 3), "patch_size": 3, "width": 32, "depth": 2, "heads": 2},
    "mlp": {"latent_shape": (3,), "width": 64, "depth": 2},
}


@each_network
def test_after_a_short_training_a_network_draws_the_colour_that_the_caption_names(name):
    shape, numbers = TOYS[name]["latent_shape"], torch.Generator().manual_seed(0)
    network = build_denoiser(name, cond_dim=0, text=TEXT, **TOYS[name])
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
    for _ in range(60):
        which = torch.randint(len(CAPTIONS), (32,), generator=numbers)
        z0 = -torch.ones(32, *shape)
        z0[torch.arange(32), which // 2] = 1  # the channel of its colour
        condition = _condition(*(CAPTIONS[index] for index in which)).dropped(torch.rand(32, generator=numbers) < 0.1)
        t, noise = sample_times(32, "uniform", numbers), torch.randn(z0.shape, generator=numbers)
        optimizer.zero_grad()
        denoising_loss(network, PROCESS, z0, condition, t, noise).mean().backward()
        optimizer.step()
    model = guided_model(network, PROCESS, _condition(*CAPTIONS * 10), Guidance(1.5))
    with torch.no_grad():
        z0 = dpmpp_2m(model, torch.randn(60, *shape, generator=numbers), time_grid(5), None)
    drawn = z0.flatten(2).mean(dim=2).argmax(dim=1) if len(shape) == 3 else z0.argmax(dim=1)
    assert float((drawn == torch.arange(60) % 6 // 2).float().mean()) > 0.8  # chance is 1/3
