"""Latents without a value of an attribute take part neither in its probe nor in its scores."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.latents.cache import LatentSplit
from latentline.probes.probes import Probe
from stages.train_latent_classifiers.fit import fit_probes
from stages.train_latent_classifiers.params import LatentClassifiersParams
from stages.train_latent_classifiers.report import report

SMILING = Attribute("smiling", "binary")
AGE = Attribute("age", "continuous", mean=40.0, std=12.5)
HAIR = Attribute("hair", "categorical", ("black", "red", "none"))
EACH = pytest.mark.parametrize("attribute", [SMILING, AGE, HAIR], ids=lambda attribute: attribute.kind)
CHOSEN = LatentClassifiersParams(inverse_regularization=None)
FIXED = LatentClassifiersParams(inverse_regularization=1.0)


def _split(attribute: Attribute, latents: torch.Tensor, values: torch.Tensor) -> LatentSplit[torch.Tensor]:
    return LatentSplit(latents, LabelTable((attribute,), values[:, None]))


def _with_gaps(attribute: Attribute, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    latents = torch.randn(count, 6)
    chosen = latents[:, :3].argmax(dim=1).float() if attribute.classes else (latents[:, 0] > 0).float()
    values = 40 + 5 * latents[:, 0] if attribute.kind == "continuous" else chosen
    return latents, values.where(torch.arange(count) % 4 > 0, torch.nan)


def _scores(schema: tuple[Attribute, ...], logits: torch.Tensor, values: torch.Tensor) -> dict[str, Any]:
    report(LabelTable(schema, values), logits, "multinomial", {}, {})
    return json.loads(Path("metrics/latent_classifiers.json").read_text())["by_attribute"]


@EACH
def test_a_probe_is_that_of_the_latents_with_a_value(attribute):
    splits = [_with_gaps(attribute, count) for count in (90, 50)]
    present = [(latents[~values.isnan()], values[~values.isnan()]) for latents, values in splits]
    (probe, chosen), (expected, same) = (
        fit_probes((attribute,), *(_split(attribute, *part) for part in parts), CHOSEN) for parts in (splits, present)
    )
    assert torch.equal(probe.weight, expected.weight)
    assert torch.equal(probe.bias, expected.bias)
    assert chosen == same


@EACH
def test_without_any_value_the_probe_is_zeros_and_the_regularisation_has_to_be_given(attribute, caplog):
    none = _split(attribute, torch.randn(9, 6), torch.full((9,), torch.nan))
    probe, _ = fit_probes((attribute,), none, none, FIXED)
    assert not probe.weight.any()
    assert f"{attribute.name}: none of the 9 latents to fit on has a value" in caplog.text
    with pytest.raises(UserError, match=r"^latent_classifiers\.inverse_regularization \(null\) must be a number"):
        fit_probes((attribute,), none, none, CHOSEN)


def test_scores_are_those_of_the_latents_with_a_value(workplace):
    logits = Probe(torch.randn(4, 6), torch.zeros(4))(torch.randn(40, 6))
    gaps = torch.stack([_with_gaps(SMILING, 40)[1], _with_gaps(HAIR, 40)[1]], dim=1)
    present = ~gaps[:, 0].isnan()
    assert _scores((SMILING, HAIR), logits, gaps) == _scores((SMILING, HAIR), logits[present], gaps[present])
