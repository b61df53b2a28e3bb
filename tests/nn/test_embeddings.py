"""The embedding of time is geometric, and a condition of zeros adds nothing to it."""

import torch
import torch.nn.functional as F

from latentline.core.condition import Condition
from latentline.nn.embeddings import ConditionEmbedding, TimeFeatures, geometric_frequencies, sinusoidal


def test_each_frequency_gives_a_point_on_the_unit_circle():
    embedded = sinusoidal(torch.rand(7), geometric_frequencies(32))
    assert embedded.shape == (7, 32)
    torch.testing.assert_close(embedded[:, :16].square() + embedded[:, 16:].square(), torch.ones(7, 16))


def test_frequencies_rise_geometrically_from_1_to_the_highest():
    t = torch.tensor([1e-4], dtype=torch.float64)  # so small that sin(f t) = f t to seven digits
    frequencies = (sinusoidal(t, geometric_frequencies(20, highest=100.0))[0, :10] / t).tolist()
    torch.testing.assert_close(frequencies, [100 ** (index / 9) for index in range(10)], rtol=1e-4, atol=0)


def test_time_zero_is_all_cosines():
    assert sinusoidal(torch.zeros(1), geometric_frequencies(6)).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_near_times_are_distinguished_across_the_whole_range():
    embedded = sinusoidal(torch.linspace(0, 1, 501), geometric_frequencies(64))
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(501)
    assert distances.min() > 0.1


def test_time_and_every_entry_of_the_condition_matter():
    embedding = ConditionEmbedding(cond_dim=3, channels=16)
    t = torch.full((4,), 0.5)
    conditions = torch.cat([torch.eye(3), torch.zeros(1, 3)])
    embedded = embedding(t, Condition(conditions))
    assert embedded.shape == (4, 16)
    assert (torch.cdist(embedded, embedded) + torch.eye(4)).min() > 1e-3
    assert not torch.allclose(embedded, embedding(t + 0.1, Condition(conditions)))


def test_a_condition_of_zeros_is_no_condition():
    conditional, unconditional = (
        ConditionEmbedding(cond_dim=3, channels=16),
        ConditionEmbedding(cond_dim=0, channels=16),
    )
    unconditional.time.load_state_dict(conditional.time.state_dict())
    t = torch.rand(4)
    assert torch.equal(conditional(t, Condition(torch.zeros(4, 3))), unconditional(t, Condition(torch.zeros(4, 0))))


def test_the_embedding_is_silu_of_time_plus_a_linear_map_of_the_condition(awake):
    embedding = awake(ConditionEmbedding(cond_dim=3, channels=16))
    t, condition = torch.rand(4), torch.randn(4, 3)
    expected = F.silu(
        embedding.time(sinusoidal(t, geometric_frequencies(16))) + condition @ embedding.condition.weight.T
    )
    torch.testing.assert_close(embedding(t, Condition(condition)), expected)


def test_captions_count_by_the_mean_of_their_states_and_padding_is_none_of_them(awake):
    embedding = awake(ConditionEmbedding(cond_dim=3, channels=16, text_dim=5))
    t, vector, states = torch.rand(2), torch.randn(2, 3), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    means = torch.stack([states[0, :2].mean(dim=0), states[1].mean(dim=0)])  # (B, D)
    projected = torch.cat([vector, means], dim=1) @ embedding.condition.weight.T
    expected = F.silu(embedding.time(sinusoidal(t, geometric_frequencies(16))) + projected)
    torch.testing.assert_close(embedding(t, Condition(vector, states, mask)), expected)
    other = states.masked_fill(~mask[..., None], 100.0)
    torch.testing.assert_close(embedding(t, Condition(vector, other, mask)), expected)


def test_the_frequencies_keep_all_their_bits_and_stay_out_of_checkpoints():
    features = TimeFeatures(16)
    for cast in (torch.bfloat16, torch.float64, torch.float32):
        features.to(cast)
        assert torch.equal(features.frequencies, geometric_frequencies(16))
    assert features.to("meta").frequencies.device.type == "meta"
    assert features.to_empty(device="cpu").frequencies.tolist() == geometric_frequencies(16).tolist()
    assert features.state_dict() == {}
