"""Random numbers follow from the seed and names alone."""

import itertools

import torch

from latentline.core.seeds import derive_seed, generator, start_noise

PATHS = [
    (0,),
    (1,),
    (0, "a"),
    (0, "b"),
    (1, "a"),
    (0, "a", "b"),
    (0, "b", "a"),
    (0, "a", 0),
    (0, "a", 1),
    (0, "a", 11),
    (0, "a", 1, 1),
]


def test_every_seed_and_path_of_names_has_a_seed_of_its_own():
    seeds = [derive_seed(*path) for path in PATHS]
    assert len(set(seeds)) == len(PATHS)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_of_different_names_draw_different_numbers():
    drawn = [torch.randn(8, generator=generator(*path)) for path in PATHS]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(drawn, 2))


def test_what_was_drawn_before_changes_nothing():
    first = torch.randn(8, generator=generator(0, "noise", 17))
    torch.manual_seed(123)
    torch.randn(1000)
    torch.randn(1000, generator=generator(0, "noise", 16))
    assert torch.equal(first, torch.randn(8, generator=generator(0, "noise", 17)))


def test_drawing_from_a_generator_leaves_the_global_one_alone():
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    torch.randn(100, generator=generator(0, "noise"))
    assert torch.equal(torch.randn(4), expected)


def test_the_noise_of_a_row_follows_from_its_index_alone():
    rows = start_noise(0, "images", torch.tensor([4, 0, 7]), (2, 3))
    assert rows.shape == (3, 2, 3)
    assert torch.equal(rows[2:], start_noise(0, "images", torch.tensor([7]), (2, 3)))
    assert not any(
        torch.equal(rows[0], other)
        for other in (rows[1], rows[2], start_noise(1, "images", torch.tensor([4]), (2, 3))[0])
    )
