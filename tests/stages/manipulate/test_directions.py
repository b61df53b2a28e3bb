"""Choice of the targets, and of a direction for each."""

import itertools
import logging
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.attributes import Attribute
from latentline.core.labels import LabelTable, build_schema
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from stages.manipulate.directions import edit_directions, evenly_spaced

SCHEMA = build_schema(("cat", "dog", "owl"), (Attribute("smiling", "binary"),))


@dataclass
class Params:
    direction: str = "mean_difference"
    target_names: list[str] = field(default_factory=list)
    targets: int = 20


def _labels(*values: list[float]) -> LabelTable:
    return LabelTable(SCHEMA, torch.tensor(values))


TO_EDIT = _labels([0.0, 1.0], [1.0, 1.0], [2.0, 1.0])


@pytest.fixture
def stats(workplace) -> LatentStats:
    """Statistics of a cache whose training latents are dogs or cats, smiling or not; no owl."""
    values = torch.stack([(torch.arange(200) % 2).float(), (torch.arange(200) % 3 > 0).float()], dim=1)
    latents = torch.randn(200, 6)
    latents[:, 0] += 4 * values[:, 0]
    latents[:, 1] += 4 * values[:, 1]
    split = LatentSplit(latents, LabelTable(SCHEMA, values))
    return write_cache(
        workplace, {name: [split] for name in ("train", "val", "test")}, schema=SCHEMA, autoencoder="ab" * 32
    )


@given(count=st.integers(2, 2000), share=st.floats(0, 1))
def test_targets_are_evenly_spaced_and_none_is_taken_twice(count, share):
    most = 1 + int(share * (count - 2))
    chosen = evenly_spaced(range(count), most)
    steps = {after - before for before, after in itertools.pairwise([*chosen, count])}
    assert (len(chosen), chosen[0]) == (most, 0)
    assert steps <= {count // most, -(-count // most)}


def test_directions_lead_to_the_mean_of_the_matching_latents_and_random_ones_move_as_far(stats):
    targets, learnt, random = edit_directions(Params(), 0, stats, TO_EDIT)
    # All images smile already, and there is no owl to learn from.
    assert [target.name for target in targets] == ["cat", "dog"]
    torch.testing.assert_close(learnt.vectors[0], -learnt.vectors[1])
    assert learnt.vectors[1, 0] > 0.9
    for directions in (learnt, random):
        torch.testing.assert_close(directions.vectors.norm(dim=1), torch.ones(2))
    assert torch.equal(learnt.scales, random.scales)
    assert not torch.equal(learnt.vectors, random.vectors)
    again, other = (edit_directions(Params(), seed, stats, TO_EDIT)[2].vectors for seed in (0, 1))
    assert torch.equal(random.vectors, again)
    assert not torch.equal(random.vectors, other)


def test_targets_are_limited_by_name_and_by_number_and_the_log_names_the_others(stats, caplog):
    with caplog.at_level(logging.INFO):
        targets, learnt, _ = edit_directions(Params(target_names=["dog", "owl"]), 0, stats, TO_EDIT)
        assert ([target.name for target in targets], len(learnt.vectors)) == (["dog"], 1)
        targets, learnt, _ = edit_directions(Params(targets=1), 0, stats, TO_EDIT)
        assert ([target.name for target in targets], len(learnt.vectors)) == (["cat"], 1)
    assert caplog.messages == [
        "not editing towards owl: all images to edit are so, or nothing could be learnt",
        "editing towards 1 of 2 targets (manipulate.targets)",
    ]


def test_there_is_no_direction_where_all_images_match_already(stats):
    targets, learnt, random = edit_directions(Params(target_names=["smiling"]), 0, stats, TO_EDIT)
    assert (targets, len(learnt.vectors), len(learnt.scales), len(random.vectors)) == ([], 0, 0, 0)


def test_training_latents_without_a_value_shape_no_direction_of_it(workplace):
    values = torch.stack([(torch.arange(60) % 2).float(), (torch.arange(60) % 3 > 0).float()], dim=1)
    latents, gaps = torch.randn(60, 6), values.clone()
    gaps[::5, 1] = torch.nan
    split = LatentSplit(latents, LabelTable(SCHEMA, gaps))
    splits = {name: [split] for name in ("train", "val", "test")}
    stats = write_cache(workplace, splits, schema=SCHEMA, autoencoder="ab" * 32)
    targets, learnt, _ = edit_directions(Params(), 0, stats, _labels([0.0, 0.0], [1.0, torch.nan]))
    assert [target.name for target in targets] == ["cat", "dog", "smiling"]
    z0, smiling = stats.normalizer.standardise(latents), gaps[:, 1]
    difference = z0[smiling == 1].mean(dim=0) - z0[smiling == 0].mean(dim=0)
    torch.testing.assert_close(learnt.vectors[2], difference / difference.norm())
