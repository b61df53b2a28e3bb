"""Conditioning encodes the chosen labels; samples get classes in turn and attributes of training images."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.attributes import CLASS, Attribute, encode_attributes
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.denoisers.conditioning import build_conditioning, conditioning_on, labels_for_samples
from latentline.latents.tokenizer import train_tokenizer

ATTRIBUTES = (Attribute("smiling", "binary"), Attribute("age", "continuous", mean=40.0, std=12.5))
SCHEMA = build_schema(("cat", "dog", "owl"), ATTRIBUTES)


def _labels(count: int, classes: int = 3) -> LabelTable:
    """Labels of images of the first ``classes`` classes; no two images are of the same age."""
    columns = [torch.randint(0, classes, (count,)).float(), torch.rand(count).round(), torch.randperm(count).float()]
    return LabelTable(SCHEMA, torch.stack(columns, dim=1))


@given(count=st.integers(1, 60), images=st.integers(1, 20))
def test_classes_come_in_turn_and_the_rest_from_an_image_of_that_class(count, images):
    training = _labels(images)
    samples = labels_for_samples(training, count)
    assert samples.schema == SCHEMA
    assert samples.values[:, 0].tolist() == [index % 3 for index in range(count)]
    rows = {tuple(row) for row in training.values.tolist()}
    present = set(training.column(CLASS).tolist())
    assert all(tuple(row) in rows for row in samples.values.tolist() if row[0] in present)


def test_every_image_of_a_class_has_its_turn_before_one_has_a_second():
    columns = [torch.tensor([0.0, 0, 0, 0, 1, 2, 2]), torch.zeros(7), torch.arange(7.0)]
    training = LabelTable(SCHEMA, torch.stack(columns, dim=1))
    ages = labels_for_samples(training, 3 * 8).column("age").reshape(8, 3).T  # (class, its samples)
    for label, of_class in enumerate([[0, 1, 2, 3], [4], [5, 6]]):
        times = [ages[label].tolist().count(age) for age in of_class]
        assert sum(times) == 8
        assert max(times) - min(times) <= 1


def test_a_class_without_an_image_borrows_the_rest_from_another():
    training = _labels(10, classes=2)
    values = labels_for_samples(training, 30).values
    assert values[2::3, 0].tolist() == [2] * 10
    rest = {tuple(row) for row in training.values[:, 1:].tolist()}
    assert all(tuple(row) in rest for row in values[2::3, 1:].tolist())


def test_without_a_class_images_come_in_turn():
    training = _labels(4).select([attribute.name for attribute in ATTRIBUTES])
    samples = labels_for_samples(training, 10)
    assert samples.schema == ATTRIBUTES
    assert torch.equal(samples.values, training.values[torch.arange(10) % 4])


def test_without_labels_the_samples_have_none_either():
    samples = labels_for_samples(LabelTable((), torch.empty(0, 0)), 7)
    assert (samples.schema, samples.values.shape) == ((), (7, 0))


@pytest.mark.parametrize(
    ("wanted", "names", "cond_dim"),
    [("all", ["label", "smiling", "age"], 3 + 1 + 2), ("class", ["label"], 3), ("none", [], 0)],
)
def test_the_denoiser_is_conditioned_on_what_the_setting_names(wanted, names, cond_dim):
    conditioning, labels = build_conditioning(wanted, SCHEMA), _labels(5)
    assert (conditioning.names, conditioning.cond_dim) == (names, cond_dim)
    chosen = [index for index, attribute in enumerate(SCHEMA) if attribute.name in names]
    expected = encode_attributes([SCHEMA[index] for index in chosen], labels.values[:, chosen])
    condition = conditioning.encode(labels)
    assert torch.equal(condition.vector, expected)
    assert condition.vector.shape == (5, cond_dim)
    assert (condition.tokens, condition.mask) == (None, None)
    assert conditioning_on(conditioning.names, SCHEMA) == conditioning


@pytest.mark.parametrize(
    ("wanted", "names", "reads"),
    [("all", ["label", "smiling", "age"], True), ("class", ["label"], False), ("text", [], True), ("none", [], False)],
)
def test_captions_are_part_of_all_and_of_text(wanted, names, reads):
    tokenizer, labels = train_tokenizer(["a red square"], 300, 4), _labels(3)
    conditioning = build_conditioning(wanted, SCHEMA, tokenizer)
    assert (conditioning.names, conditioning.tokenizer) == (names, tokenizer if reads else None)
    tokens = tokenizer.encode(["a red square", "", "red"])
    condition = conditioning.encode(labels, tokens)
    assert torch.equal(condition.vector, build_conditioning(wanted, SCHEMA, tokenizer).encode(labels).vector)
    if reads:
        assert torch.equal(condition.tokens, tokens)
        assert torch.equal(condition.mask, tokens != 0)
        assert not conditioning.encode(labels).mask.any()
        assert conditioning.guidance(1.9, "sample.guidance_scale") == 1.9
    else:
        assert condition.tokens is None


def test_captions_that_are_not_there_are_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"^denoiser\.condition \(text\) must be all, class or none for images without"):
        build_conditioning("text", SCHEMA)


def test_any_attribute_finds_its_own_values_among_all():
    labels = _labels(5)
    condition = conditioning_on(["age"], SCHEMA).encode(labels)
    assert torch.equal(condition.vector, ATTRIBUTES[1].encode(labels.values[:, 2]))


def test_the_null_condition_is_zeros_for_any_number_of_examples():
    conditioning = build_conditioning("all", SCHEMA)
    assert torch.equal(conditioning.null(4).vector, torch.zeros(4, 6))
    assert torch.equal(conditioning.encode(_labels(4)).null().vector, conditioning.null(4).vector)


def test_a_class_that_is_not_there_is_refused_with_the_remedy():
    expected = "all or none for images without class labels"
    with pytest.raises(
        UserError, match=rf"^denoiser\.condition \(class\) must be {expected}; set it to one of them, or"
    ):
        build_conditioning("class", ATTRIBUTES)


@pytest.mark.parametrize(
    ("wanted", "scale", "used", "lines"), [("all", 1.9, 1.9, 0), ("none", 1.9, 1.0, 1), ("none", 1.0, 1.0, 0)]
)
def test_guidance_is_off_for_an_unconditional_denoiser_and_a_line_in_the_log_names_the_setting(
    caplog, wanted, scale, used, lines
):
    with caplog.at_level(logging.INFO):
        assert build_conditioning(wanted, SCHEMA).guidance(scale, "sample.guidance_scale") == used
    assert [record.message.split()[0] for record in caplog.records] == ["sample.guidance_scale"] * lines


def test_a_value_that_training_images_lack_is_missing_in_samples_and_null_in_their_condition():
    training = _labels(6)
    training.values[:, 2] = torch.nan
    samples = labels_for_samples(training, 12)
    assert samples.values[:, 2].isnan().all()
    assert not samples.values[:, :2].isnan().any()
    conditioning = build_conditioning("all", SCHEMA)
    assert torch.equal(conditioning.encode(samples).vector[:, 4:], torch.zeros(12, 2))
    assert torch.equal(
        conditioning_on(["age"], SCHEMA).encode(samples).vector, conditioning_on(["age"], SCHEMA).null(12).vector
    )
