import torch
from sklearn.linear_model import LogisticRegression

from latentline.common.seeds import generator
from latentline.editing.directions import move, patterns, random_directions, spread, unit


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).abs().item()


def test_patterns_are_the_covariance_times_the_normals():
    latents, normals = torch.randn(200, 6) @ torch.randn(6, 6), torch.randn(4, 6)
    centred = latents - latents.mean(dim=0)
    covariance = centred.T @ centred / 199
    for pattern, normal in zip(patterns(normals, latents), normals, strict=True):
        torch.testing.assert_close(pattern, covariance @ normal, rtol=1e-4, atol=1e-4)


def test_with_correlated_noise_the_pattern_is_the_classes_difference_where_the_normal_is_not():
    """Haufe et al. 2014, figure 1: a classifier also weighs a channel that holds nothing but the noise of another."""
    labels = torch.arange(4000) % 2
    noise = torch.randn(4000)
    signal = torch.where(labels == 1, 1.0, -1.0) + noise
    latents = torch.stack([signal + 0.1 * torch.randn(4000), noise + 0.1 * torch.randn(4000)], dim=1)
    difference = latents[labels == 1].mean(dim=0) - latents[labels == 0].mean(dim=0)  # along the first axis
    normal = torch.from_numpy(LogisticRegression().fit(latents.numpy(), labels.numpy()).coef_).float()
    # The total covariance adds the between-class part to the noise, which turns the pattern onto the difference.
    assert _cosine(normal[0], difference) < 0.8
    assert _cosine(patterns(normal, latents)[0], difference) > 0.97


def test_for_a_linear_discriminant_the_pattern_is_exactly_the_difference_of_the_means():
    latents, labels = torch.randn(500, 5).double() @ torch.randn(5, 5).double(), torch.arange(500) % 2
    latents[labels == 1] += torch.randn(5).double()
    difference = latents[labels == 1].mean(dim=0) - latents[labels == 0].mean(dim=0)
    normal = torch.linalg.solve(torch.cov(latents.T), difference)
    torch.testing.assert_close(patterns(normal[None], latents)[0], difference)


def test_unit_directions_have_length_1_and_point_where_they_did():
    directions = torch.randn(5, 7) * 30
    torch.testing.assert_close(unit(directions).norm(dim=1), torch.ones(5))
    assert all(_cosine(a, b) > 0.9999 for a, b in zip(unit(directions), directions, strict=True))


def test_random_directions_have_length_1_depend_on_the_seed_alone_and_prefer_no_axis():
    like = torch.zeros(20_000, 3)
    directions = random_directions(like, generator(0, "random"))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(20_000))
    assert torch.equal(directions, random_directions(like + 5, generator(0, "random")))
    assert not torch.equal(directions, random_directions(like, generator(1, "random")))
    torch.testing.assert_close(directions.mean(dim=0), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(directions.square().mean(dim=0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_the_spread_is_the_standard_deviation_of_the_shadow_on_the_direction():
    latents = torch.randn(5000, 3) * torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(spread(latents, torch.eye(3)), latents.std(dim=0))
    diagonal = unit(torch.ones(1, 3))
    torch.testing.assert_close(spread(latents, diagonal)[0], (latents.sum(dim=1) / 3**0.5).std())


def test_a_move_shifts_the_shadow_by_the_distance_and_nothing_across_it():
    latents, direction = torch.randn(10, 4), unit(torch.randn(1, 4))[0]
    shift = move(latents, direction, -2.5) - latents
    torch.testing.assert_close(shift @ direction, torch.full((10,), -2.5))
    torch.testing.assert_close(shift.norm(dim=1), torch.full((10,), 2.5))
    assert torch.equal(move(latents, direction, 0.0), latents)
