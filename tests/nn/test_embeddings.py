import torch

from latentline.nn.embeddings import ConditionEmbedding, sinusoidal


def test_each_frequency_gives_a_point_on_the_unit_circle():
    embedded = sinusoidal(torch.rand(7), 32)
    assert embedded.shape == (7, 32)
    torch.testing.assert_close(embedded[:, :16].square() + embedded[:, 16:].square(), torch.ones(7, 16))


def test_frequencies_rise_geometrically_from_1_to_the_highest():
    t = torch.tensor([1e-4], dtype=torch.float64)  # so small that sin(f t) = f t to seven digits
    frequencies = (sinusoidal(t, 20, highest=100.0)[0, :10] / t).tolist()
    torch.testing.assert_close(frequencies, [100 ** (index / 9) for index in range(10)], rtol=1e-4, atol=0)


def test_time_zero_is_all_cosines():
    assert sinusoidal(torch.zeros(1), 6).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_near_times_are_told_apart_across_the_whole_range():
    embedded = sinusoidal(torch.linspace(0, 1, 501), 64)
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(501)
    assert distances.min() > 0.1


def test_time_and_every_class_matter_and_nothing_told_is_none_of_the_classes():
    embedding = ConditionEmbedding(features=3, channels=16)
    t, conditions = torch.full((4,), 0.5), torch.eye(4)[:, :3]  # one-hot classes, then zeros
    by_condition = embedding(t, conditions)
    assert by_condition.shape == (4, 16)
    assert (torch.cdist(by_condition, by_condition) + torch.eye(4)).min() > 1e-3
    assert not torch.allclose(by_condition, embedding(t + 0.1, conditions))


def test_zeros_add_nothing_to_the_time(awake):
    t = torch.rand(5)
    told, alone = awake(ConditionEmbedding(features=3, channels=16)), ConditionEmbedding(features=0, channels=16)
    alone.time.load_state_dict(told.time.state_dict())
    assert torch.equal(told(t, torch.zeros(5, 3)), alone(t, torch.empty(5, 0)))
    assert not torch.allclose(told(t, torch.ones(5, 3)), alone(t, torch.empty(5, 0)))
