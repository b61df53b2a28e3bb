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


def test_time_and_label_both_matter_and_the_null_label_is_one_of_its_own():
    embedding = ConditionEmbedding(classes=3, channels=16)
    t = torch.full((4,), 0.5)
    by_label = embedding(t, torch.arange(4))  # 3 = none
    assert by_label.shape == (4, 16)
    assert (torch.cdist(by_label, by_label) + torch.eye(4)).min() > 1e-3
    assert not torch.allclose(by_label, embedding(t + 0.1, torch.arange(4)))
