"""More classes than a probe can be fitted on: the most frequent ones are fitted, and the log says so."""

import torch

from latentline.core.labels import LabelTable, build_schema
from latentline.latents.cache import LatentSplit
from latentline.probes.probes import partly_fitted
from stages.train_latent_classifiers import report
from stages.train_latent_classifiers.fit import fit_probes
from stages.train_latent_classifiers.params import LatentClassifiersParams

SCHEMA = build_schema([f"c{index}" for index in range(1100)], ())


def test_the_probe_of_very_many_classes_predicts_the_most_frequent_ones(caplog):
    classes = torch.cat([torch.arange(1100), torch.arange(100, 1100)])
    latents = torch.randn(len(classes), 2, 1, 1)
    split = LatentSplit(latents, LabelTable(SCHEMA, classes[:, None].float()))
    params = LatentClassifiersParams(max_iterations=2)
    probe, _ = fit_probes(SCHEMA, split, split, params)
    assert probe.weight.shape == (1100, 2)
    predicted = probe(latents.flatten(1)).argmax(dim=1)
    assert predicted.min() >= 100
    assert partly_fitted(SCHEMA, probe.bias) == {"label": 1000}
    assert "fitted on the 1000 most frequent of 1100 classes, 2000 of 2100 latents" in caplog.text


def test_where_logits_would_fill_memory_evenly_spaced_rows_are_scored(caplog, monkeypatch):
    assert report.scored_rows(50_000, 1000) == slice(None)
    assert not caplog.text
    monkeypatch.setattr(report, "_MAX_LOGITS", 5000)
    rows = report.scored_rows(99, 1000)
    assert rows.tolist() == [0, 24, 49, 73, 98]
    assert "5 of 99 test latents are scored" in caplog.text
