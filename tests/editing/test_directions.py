"""Directions in latent space: their length, spread, and the shift along them."""

import torch

from latentline.core.seeds import generator
from latentline.editing.directions import mean_differences, move, random_directions, spread, unit


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).abs().item()


def test_unit_directions_have_length_1_and_point_where_they_did():
    directions = torch.randn(5, 7) * 30
    torch.testing.assert_close(unit(directions).norm(dim=1), torch.ones(5))
    assert all(_cosine(a, b) > 0.9999 for a, b in zip(unit(directions), directions, strict=True))


def test_random_directions_have_length_1_depend_on_the_seed_alone_and_favour_no_axis():
    like = torch.zeros(20_000, 3)
    directions = random_directions(like, generator(0, "random"))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20_000))
    assert torch.equal(directions, random_directions(like + 5, generator(0, "random")))
    assert not torch.equal(directions, random_directions(like, generator(1, "random")))
    torch.testing.assert_close(directions.mean(dim=0), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(directions.square().mean(dim=0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_the_spread_is_the_standard_deviation_of_the_projection_on_the_direction():
    latents = torch.randn(5000, 3) * torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(spread(latents, torch.eye(3)), latents.std(dim=0))
    diagonal = unit(torch.ones(1, 3))
    torch.testing.assert_close(spread(latents, diagonal)[0], (latents.sum(dim=1) / 3**0.5).std())


def test_a_move_shifts_the_projection_by_the_distance_and_nothing_across_it():
    latents, direction = torch.randn(10, 4), unit(torch.randn(1, 4))[0]
    shift = move(latents, direction, -2.5) - latents
    torch.testing.assert_close(shift @ direction, torch.full((10,), -2.5))
    torch.testing.assert_close(shift.norm(dim=1), torch.full((10,), 2.5))
    assert torch.equal(move(latents, direction, 0.0), latents)


def test_each_image_can_be_moved_by_its_own_distance():
    latents, direction, distances = torch.randn(10, 4), unit(torch.randn(1, 4))[0], torch.linspace(-3, 3, 10)
    rows = [move(latents[row : row + 1], direction, float(distances[row])) for row in range(10)]
    torch.testing.assert_close(move(latents, direction, distances[:, None]), torch.cat(rows))


def test_a_mean_difference_leads_from_the_mean_of_the_others_to_the_mean_of_the_matching():
    latents, matches = torch.randn(30, 4), torch.rand(30, 3) > 0.4
    expected = torch.stack([latents[match].mean(dim=0) - latents[~match].mean(dim=0) for match in matches.T])
    torch.testing.assert_close(mean_differences(latents, matches, torch.zeros_like(matches)), expected)


def test_there_is_no_mean_difference_where_all_match_or_none():
    matches = torch.tensor([[True, False, True], [True, False, False]])
    differences = mean_differences(torch.randn(2, 4), matches, torch.zeros_like(matches))
    assert not differences[:2].any()
    assert differences[2].all()


def test_an_image_that_may_match_or_not_is_left_out_of_the_mean_difference():
    latents, matches = torch.randn(30, 4), torch.rand(30, 3) > 0.4
    unknown = (torch.rand(30, 3) > 0.7) & ~matches
    unknown[:, 2] = ~matches[:, 2]  # all others are unknown
    found = mean_differences(latents, matches, unknown)
    expected = torch.stack(
        [latents[matches[:, k]].mean(dim=0) - latents[~matches[:, k] & ~unknown[:, k]].mean(dim=0) for k in range(2)]
    )
    torch.testing.assert_close(found[:2], expected)
    assert not found[2].any()
