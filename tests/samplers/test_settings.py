"""Settings of sampling for one denoiser: what they refuse, under which name, and which network guides."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import build_process
from latentline.samplers.settings import SamplingSettings

LEARNT = {"guidance_scale": 3.5, "guidance_start": 0.15, "guidance_end": 0.6}
PLAIN, AVERAGED = build_process("flow", "velocity"), build_process("flow", "velocity", flow_map=LEARNT)


def _denoiser(**changes: object) -> Denoiser:
    conditioning = Conditioning((Attribute("label", "categorical", ("boot", "bag")),))
    denoiser = Denoiser(nn.Identity(), PLAIN, conditioning, (2, 4, 4), torch.device("cpu"), nn.Identity())
    return replace(denoiser, **changes)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"sampler": "flow_map"}, {}, "sampler (flow_map) must be one of"),
        ({"guidance_rescale": 0.5}, {"latent_shape": (1,)}, "{}guidance_rescale (0.5) must be 0 for latents of a"),
        ({"negative_prompt": "a bag"}, {}, "{}negative_prompt ('a bag') must be empty for a denoiser that is not"),
        (
            {"sampler": "flow_map", "steps": 2},
            {"process": AVERAGED},
            "{}guidance_scale (2.0) must be 3.5 with sampler flow_map",
        ),
        (
            {"sampler": "flow_map", "steps": 1, "guidance_scale": 3.5},
            {"process": AVERAGED},
            "{}guidance_start (0.0) must be 0.15 with sampler flow_map",
        ),
        (
            {"sampler": "flow_map", "steps": 4},
            {"process": AVERAGED},
            "{}steps (4) must be 1 or 2 with sampler flow_map",
        ),
        (
            {"sampler": "flow_map", "steps": 2, "time_grid": "karras"},
            {"process": AVERAGED},
            "{}time_grid (karras) must be uniform with sampler flow_map",
        ),
    ],
)
@pytest.mark.parametrize("section", ["", "sample."])
def test_what_does_not_fit_the_denoiser_is_refused_by_the_settings_name(settings, changes, message, section):
    with pytest.raises(UserError) as caught:
        SamplingSettings(**{"guidance_scale": 2.0, **settings}).config(_denoiser(**changes), section)
    assert str(caught.value).startswith(message.format(section))


def test_sampler_flow_map_has_the_guidance_that_its_network_has_learnt():
    settings = SamplingSettings("flow_map", steps=1, guidance_scale=2.0, guidance_rescale=0.5)
    guidance = settings.with_learnt_guidance(AVERAGED).config(_denoiser(process=AVERAGED)).guidance
    assert guidance == Guidance(3.5, 0.15, 0.6)
    other = replace(settings, sampler="euler")
    assert other.with_learnt_guidance(AVERAGED) is other


def test_the_early_network_guides_where_settings_say_so_and_there_is_one():
    denoiser = _denoiser()
    assert denoiser.guide_for(SamplingSettings(guide="early", guidance_scale=2.0).config(denoiser).guidance) is not None
    assert denoiser.guide_for(SamplingSettings(guide="own", guidance_scale=2.0).config(denoiser).guidance) is None
    assert denoiser.guide_for(Guidance(0.0, early=True)) is None  # the denoiser itself draws, without its condition
    assert replace(denoiser, guide=None).guide_for(Guidance(2.0, early=True)) is None
