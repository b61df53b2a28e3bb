"""The explorer draws the images of stage ``sample``, and refuses bad values."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from latentline.core.arrays import load_arrays
from latentline.core.errors import UserError
from latentline.core.paths import GENERATED
from latentline.data.samples import read_samples
from latentline.explorer.sampling import SampleRequest, draw, samplers


def _generated(session):
    return read_samples(GENERATED, session.model.autoencoder.sha256)


def test_with_the_settings_of_the_run_the_samples_are_those_of_the_stage(session):
    drawn = draw(session, SampleRequest.of_run(session, count=12))
    stored = _generated(session)
    assert torch.equal(drawn.images, stored.images[torch.arange(12)])
    assert torch.equal(drawn.labels.values, stored.labels.values[:12])


def test_the_guide_guides_where_the_run_says_so(session, awake):
    denoiser, request = session.model.denoiser, SampleRequest.of_run(session, count=3)
    session.settings["sample.guide"] = "early"
    images = []
    for guide in (None, denoiser.guide, awake(copy.deepcopy(denoiser.network))):
        session.model = replace(session.model, trained_denoiser=replace(denoiser, guide=guide))
        images.append(draw(session, request).images)
    assert torch.equal(images[1], _generated(session).images[:3])
    assert not torch.equal(images[2], images[1])
    session.settings["sample.guide"] = "own"
    assert torch.equal(draw(session, request).images, images[0])


def test_a_class_has_the_images_that_it_has_in_turn(session):
    drawn = draw(session, SampleRequest.of_run(session, count=5, values={"label": "standing"}))
    assert torch.equal(drawn.images, _generated(session).images[1 + 2 * torch.arange(5)])
    assert (drawn.labels.values[:, 0] == 1).all()


def test_attributes_are_set_and_change_the_images(session, awake):
    awake(session.model.denoiser.network)  # it has hardly been trained
    values = {"level": 200.0, "colour": "blue", "dotted": 1}
    drawn = draw(session, SampleRequest.of_run(session, count=3, values=values))
    names = drawn.labels.names
    assert drawn.labels.values[:, names.index("level")].tolist() == [200.0] * 3
    assert drawn.labels.values[:, names.index("dotted")].tolist() == [1.0] * 3
    assert not torch.equal(drawn.images, draw(session, SampleRequest.of_run(session, count=3)).images)


def test_the_trajectory_ends_at_the_samples_and_progress_at_one(session):
    shares: list[float] = []
    drawn = draw(session, SampleRequest.of_run(session, count=60, steps=3), shares.append)
    assert drawn.trajectory.shape == (4, len(drawn.times), *session.model.image_shape)
    assert (drawn.times[0], drawn.times[-1]) == (1.0, 0.0)
    assert torch.equal(drawn.trajectory[:, -1], drawn.images[:4])
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_an_unconditional_run_draws_too(opened):
    session = opened("no_labels")
    drawn = draw(session, SampleRequest.of_run(session, count=4))
    assert torch.equal(drawn.images, _generated(session).images[torch.arange(4)])


def test_files_to_download_hold_the_images(session, tmp_path):
    drawn = draw(session, SampleRequest.of_run(session, count=5))
    picture, arrays = drawn.save(tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored, _ = load_arrays(arrays, "sample", kind="samples")
    assert torch.equal(stored["images"], drawn.images)
    assert torch.equal(stored["labels"], drawn.labels.values[:, 0].long())


def test_every_sampler_on_offer_draws(session):
    names = samplers(session)
    assert "unipc" in names
    assert "flow_map" not in names
    for name in names:
        assert len(draw(session, SampleRequest.of_run(session, count=1, steps=1, sampler=name)).images) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"count": 10**9},
        {"count": 1.5},
        {"steps": 0},
        {"steps": 10**9},
        {"seed": -1},
        {"guidance_scale": math.nan},
        {"guidance_scale": 1e9},
        {"guidance_start": -1.0},
        {"sampler": "flow_map"},
        {"sampler": "../../etc/passwd"},
        {"values": {"label": "no such class"}},
        {"values": {"level": math.inf}},
    ],
)
def test_bad_values_are_refused(session, bad):
    with pytest.raises(UserError, match="must be"):
        draw(session, SampleRequest.of_run(session, **{"count": 1, **bad}))


@pytest.mark.slow
def test_a_prompt_changes_the_samples(captioned, monkeypatch, awake):
    from latentline.explorer.session import open_session

    monkeypatch.chdir(captioned.folder)
    session = open_session(torch.device("cpu"))
    assert session.takes_captions
    awake(session.model.denoiser.network)  # it has hardly been trained
    plain, red, blue = (
        draw(session, SampleRequest.of_run(session, count=2, prompt=prompt)).images
        for prompt in ("", "a red square", "a blue bar")
    )
    assert not torch.equal(red, blue)
    assert not torch.equal(red, plain)
