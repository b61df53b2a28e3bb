"""Edits, interpolations and repairs of one image, on runs of several kinds."""

import numpy as np
import pytest
import torch

from latentline.core.errors import UserError
from latentline.explorer.editing import EditRequest, directions, edit
from latentline.explorer.interpolation import interpolate
from latentline.explorer.repair import can_repair, mask_of_layers, repair
from latentline.explorer.start_images import decoded, from_sample, from_test


def test_without_changes_the_edit_is_the_reconstruction(session):
    source = from_test(session, 3)
    result = edit(session, source, EditRequest())
    assert torch.equal(result.images[0], source.image[0])
    assert torch.equal(result.images[1], result.images[2])
    assert not result.images[3].any()
    assert result.names[3] == "0.0% changed"
    assert any(result.names[0].startswith(name) for name in ("lying", "standing"))


def test_a_shift_along_a_direction_raises_the_logit_of_its_target(session):
    source, probe = from_test(session, 3), session.classifiers.probe
    for row, direction in enumerate(directions(session)):
        moved = source.z0.flatten(1) + 4 * direction.scale * direction.vector
        assert (probe(moved) - probe(source.z0.flatten(1)))[0, row] > 0
        assert direction.vector.norm() == pytest.approx(1, abs=1e-5)


def test_every_control_changes_the_edit(session):
    source, other = from_test(session, 3), from_test(session, 4)
    name = directions(session)[0].target.name
    plain = edit(session, source, EditRequest()).images[2]
    for request in (EditRequest({name: 6.0}), EditRequest(renoise=0.6), EditRequest(mix=1.0)):
        assert not torch.equal(edit(session, source, request, other).images[2], plain)
    mixed = edit(session, source, EditRequest(mix=1.0), other).images[2]
    assert torch.equal(mixed, decoded(session, other.z0)[0])


def test_without_probes_directions_are_differences_of_means(session):
    session.classifiers = None
    assert [one.target.name for one in directions(session)][:2] == ["lying", "standing"]


def test_images_without_labels_can_be_re_noised(opened):
    session = opened("no_labels")
    assert directions(session) == ()
    result = edit(session, from_sample(session, 2), EditRequest(renoise=0.5))
    assert result.images.shape == (4, *session.model.image_shape)
    assert result.names[:3] == ("", "", "")


def test_a_diffusion_autoencoder_keeps_its_own_noise_or_takes_another(opened):
    session = opened("diffae_mlp")
    source, other = from_test(session, 0), from_test(session, 1)
    kept, new = (edit(session, source, EditRequest(keep_noise=keep)).images[1] for keep in (True, False))
    assert not torch.equal(kept, new)
    strip = interpolate(session, source, other, 4, "spherical")
    assert torch.equal(strip[0], kept)
    assert not can_repair(session)


@pytest.mark.parametrize(
    "request_",
    [EditRequest({"no such": 1.0}), EditRequest({"lying": 1e9}), EditRequest(mix=2.0), EditRequest(renoise=-1)],
)
def test_bad_edits_are_refused(session, request_):
    with pytest.raises(UserError, match="must be"):
        edit(session, from_test(session, 0), request_, from_test(session, 1))


@pytest.mark.parametrize("way", ["linear", "spherical"])
def test_an_interpolation_goes_from_one_image_to_the_other(session, way):
    start, end = from_test(session, 0), from_test(session, 1)
    images = interpolate(session, start, end, 5, way)
    assert torch.equal(images[0], decoded(session, start.z0)[0])
    assert (images[4].int() - decoded(session, end.z0)[0].int()).abs().max() <= 1
    with pytest.raises(UserError):
        interpolate(session, start, end, 1, way)


def test_a_repair_changes_only_what_is_painted(session):
    source = from_test(session, 3)
    layer = np.zeros((160, 160, 4), dtype=np.uint8)
    layer[40:80, 40:120, 3] = 255
    mask = mask_of_layers([layer], (16, 16))
    assert mask[4:8, 4:12].all()
    assert int(mask.sum()) == 4 * 8
    for label in (None, "lying"):
        original, _, filled = repair(session, source, mask, label)
        assert torch.equal(original[:, ~mask], filled[:, ~mask])
        assert not torch.equal(original[:, mask], filled[:, mask])


def test_masks_may_be_smaller_than_the_image():
    layer = np.zeros((2, 2, 4), dtype=np.uint8)
    layer[0, 1, 3] = 255
    assert mask_of_layers([layer], (8, 8)).nonzero().amin(dim=0).tolist() == [0, 4]


def test_a_repair_of_nothing_is_refused(session):
    with pytest.raises(UserError, match="paint over"):
        repair(session, from_test(session, 0), mask_of_layers([], (16, 16)))
