"""Stage ``sample`` gives each class of samples the moments of its training latents, and says where it does not."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentline import load
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.core.load_params import read_params
from latentline.core.nested import by_dotted_name
from latentline.denoisers.gaussian_prior import gaussian_prior_of
from latentline.denoisers.moment_matching import MomentMaps
from latentline.explorer.sampling import SampleRequest
from latentline.explorer.sampling import draw as draw_in_explorer
from latentline.explorer.session import Session
from latentline.latents.cache import read_latents
from latentline.runtime import resume
from latentline.runtime.parallel import SINGLE_PROCESS
from latentline.runtime.resume import ResumeFile
from latentline.samplers.moment_file import load_moments
from stages.sample import draw, moments
from stages.sample.params import SampleParams
from support.small_kinds import SmallRun

CPU = torch.device("cpu")
COUNT = 300
KINDS = ("identity_unet", "no_labels")
pytestmark = pytest.mark.usefixtures("machine")
Sampler = Callable[[str], draw.ImageSampler]


@pytest.fixture(scope="module")
def runs(small_runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SmallRun]:
    """Return runs with and without classes, whose few images suffice for the Gaussian of each class."""
    copies = {kind: small_runs(kind).copy(tmp_path_factory.mktemp("moments") / kind) for kind in KINDS}
    for copy in copies.values():
        copy.run("train_denoiser", **{"denoiser.gaussian_rank": 2})
    return copies


@pytest.fixture
def sampler(runs, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """Return a function from the kind of a run to its sampler, in its folder."""

    def load(kind: str) -> draw.ImageSampler:
        monkeypatch.chdir(runs[kind].folder)
        return draw.load_image_sampler(SampleParams(count=40, steps=2), 0, CPU)

    return load


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few samples suffice."""
    monkeypatch.setattr(moments, "_LEAST", 5)


def _measured(sampler: draw.ImageSampler, **settings: object) -> MomentMaps | None:
    """Return the maps of a run that begins anew."""
    state = ResumeFile("moments", settings, ())
    found = _measured_from(state, sampler, sampler.draw, **settings)
    state.finish()
    return found


def _measured_from(
    state: ResumeFile, sampler: draw.ImageSampler, drawn: moments.Draw, **settings: object
) -> MomentMaps | None:
    params = SampleParams(**{"moment_samples": COUNT, **settings})
    return moments.measure_moments(drawn, sampler.denoiser, _training(sampler)[1], params, SINGLE_PROCESS, state)


def _mapped(sampler: draw.ImageSampler, maps: MomentMaps, z0: Tensor, labels: LabelTable) -> Tensor:
    return maps(z0, sampler.denoiser.conditioning.encode(labels))


def _never(*_: object) -> Tensor:
    pytest.fail("a sample was drawn")


def _training(sampler: draw.ImageSampler) -> tuple[Tensor, LabelTable]:
    split = read_latents("train")
    return sampler.stats.normalizer.standardise(split.latents[:]), split.labels


def test_samples_of_other_noise_come_nearer_to_each_class_of_the_latents(sampler, few_suffice) -> None:
    own = sampler("identity_unet")
    matched = replace(own, moments=_measured(own))
    latents, labels = _training(own)
    indices = torch.arange(len(own.labels))
    plain, mapped, drawn = own.latents(indices), matched.latents(indices), own.labels.values[:, 0]
    for label in range(len(own.stats.classes)):
        wanted = latents[labels.values[:, 0] == label].mean(dim=0)
        before, after = (z0[drawn == label].mean(dim=0).sub(wanted).norm() for z0 in (plain, mapped))
        assert after < before


def test_samples_that_moments_are_measured_on_get_exactly_those_of_their_class(sampler, few_suffice) -> None:
    own = sampler("identity_unet")
    measured = _measured(own, batch_size=70)
    labels = draw.labels_for_samples(_training(own)[1], COUNT)
    drawn = own.draw("sample/moments", torch.arange(COUNT), labels)
    mapped = _mapped(own, measured, drawn, labels).flatten(1)
    prior = gaussian_prior_of(own.denoiser.network)
    for label in range(len(own.stats.classes)):
        rows = mapped[labels.values[:, 0] == label]
        torch.testing.assert_close(rows.mean(dim=0), prior.mean[label], atol=1e-4, rtol=0)


def test_one_map_serves_a_denoiser_without_classes(sampler, few_suffice) -> None:
    own = sampler("no_labels")
    measured = _measured(own)
    latents, _ = _training(own)
    drawn = own.draw("sample/moments", torch.arange(COUNT), draw.labels_for_samples(_training(own)[1], COUNT))
    mapped = _mapped(own, measured, drawn, draw.labels_for_samples(_training(own)[1], COUNT))
    torch.testing.assert_close(mapped.mean(dim=0), latents.mean(dim=0), atol=1e-3, rtol=0)


def test_a_sample_depends_on_its_index_and_not_on_the_count(sampler, few_suffice) -> None:
    own = sampler("identity_unet")
    matched = replace(own, moments=_measured(own))
    every, some = matched.latents(torch.arange(40)), matched.latents(torch.tensor([3, 17]))
    torch.testing.assert_close(every[[3, 17]], some, atol=1e-4, rtol=0)


def test_too_few_samples_of_a_class_leave_it_alone_and_are_counted(sampler, caplog) -> None:
    caplog.set_level(logging.INFO)
    own = sampler("identity_unet")
    classes = len(own.stats.classes)
    assert _measured(own, moment_samples=99 * classes) is None
    message = f"sample.moment_samples ({99 * classes}): classes with fewer than 100 samples, or too few images"
    assert f"{message}, not corrected: {classes}" in caplog.text


def test_too_few_images_of_a_class_leave_it_alone_and_are_counted(sampler, few_suffice, caplog) -> None:
    caplog.set_level(logging.INFO)
    own = sampler("identity_unet")
    prior = gaussian_prior_of(own.denoiser.network)
    prior.fit(0, torch.zeros(1, *own.denoiser.latent_shape))
    measured = _measured(own)
    classes = len(own.stats.classes)
    assert measured.axes.flatten(1).any(dim=1).tolist() == [False] + [True] * (classes - 1) + [False]
    assert "too few images, not corrected: 1" in caplog.text
    z0 = own.latents(torch.arange(40))
    mapped, first = _mapped(own, measured, z0, own.labels), own.labels.values[:, 0] == 0
    assert torch.equal(mapped[first], z0[first])
    assert not torch.isclose(mapped[~first], z0[~first]).all()


def test_classes_that_share_one_gaussian_are_left_alone_with_a_line(sampler, caplog) -> None:
    caplog.set_level(logging.INFO)
    own = sampler("identity_unet")
    prior = gaussian_prior_of(own.denoiser.network)
    prior.classes = 0
    assert _measured(own) is None
    assert f"is not used: the {len(own.stats.classes)} classes share one Gaussian" in caplog.text


def test_a_denoiser_without_gaussians_is_left_alone_with_a_line(small_runs, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(small_runs("identity_unet").folder)
    own = draw.load_image_sampler(SampleParams(count=4, steps=2), 0, CPU)
    prior = gaussian_prior_of(own.denoiser.network)
    own = replace(own, denoiser=replace(own.denoiser, network=prior.network))
    assert _measured(own) is None
    assert f"sample.moment_samples ({COUNT}) is not used: denoiser.gaussian_rank is 0" in caplog.text


def test_zero_draws_nothing(sampler) -> None:
    assert _measured_from(ResumeFile("moments", {}, ()), sampler("identity_unet"), _never, moment_samples=0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_takes_the_maps_that_it_has_measured(kind, sampler, few_suffice) -> None:
    own, state = sampler(kind), ResumeFile("moments", {}, ())
    first, again = (_measured_from(state, own, drawn) for drawn in (own.draw, _never))
    state.finish()
    z0 = own.latents(torch.arange(40))
    assert torch.equal(_mapped(own, first, z0, own.labels), _mapped(own, again, z0, own.labels))
    assert not torch.equal(_mapped(own, first, z0, own.labels), z0)


def test_a_second_run_of_the_same_state_is_refused_before_it_draws(sampler, few_suffice, monkeypatch) -> None:
    def held(_: Path, what: str) -> int:
        raise UserError(what)

    own = sampler("identity_unet")
    monkeypatch.setattr(resume, "lock", held)
    with pytest.raises(UserError, match="with the same settings, inputs and code"):
        _measured_from(ResumeFile("moments", {}, ()), own, _never)


def test_captions_are_left_alone_with_a_line(captioned, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(captioned.folder)
    own = draw.load_image_sampler(SampleParams(count=4, steps=2), 0, CPU)
    assert _measured(own) is None
    assert f"sample.moment_samples ({COUNT}) is not used: prompts differ from the captions of training" in caplog.text


def test_more_samples_than_memory_holds_are_refused(sampler, few_suffice) -> None:
    own = sampler("identity_unet")
    message = r"^sample\.moment_samples \(1000000000\) need .* GiB of memory; .*; lower it$"
    with pytest.raises(UserError, match=message):
        _measured(own, moment_samples=10**9)


def test_the_stage_writes_matched_samples_and_maps_for_the_explorer(runs, few_suffice, tmp_path, monkeypatch) -> None:
    run = runs["identity_unet"].copy(tmp_path / "run")
    shutil.rmtree(run.folder / "data" / "generated")
    run.run("sample", **{"sample.moment_samples": 0})
    plain = run.samples()["images"]
    assert load_moments(CPU, run.folder).maps is None
    run.run("sample", **{"sample.moment_samples": COUNT})
    matched = run.samples()["images"]
    monkeypatch.chdir(run.folder)
    session = Session(load(), by_dotted_name(read_params()), moments=load_moments(CPU))
    drawn = draw_in_explorer(session, SampleRequest.of_run(session, count=7))
    assert (drawn.images.int() - matched[:7].int()).abs().max() <= 1
    assert torch.equal(drawn.trajectory[:, -1], drawn.images[:4])
    assert not drawn.unmatched
    assert draw_in_explorer(session, SampleRequest.of_run(session, count=7, steps=3)).unmatched
    run.run("sample", **{"sample.moment_samples": COUNT, "sample.count": 7, "sample.batch_size": 3})
    assert (plain.int() - matched.int()).abs().max() > 8
    assert (run.samples()["images"].int() - matched[:7].int()).abs().max() <= 1  # rounding
