"""``make model-card``: a card that huggingface_hub reads, with the scores and the licence of the data."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from latentline.core.errors import UserError
from latentline.report.model_card import model_card, write_model_card
from latentline.report.run import read_workspace


def test_the_card_has_licence_scores_and_references(finished, root, monkeypatch, tmp_path):
    monkeypatch.chdir(finished.folder)
    run = read_workspace()
    card = ModelCard.load(write_model_card(tmp_path))
    assert card.data.license == "cc-by-4.0"  # of scikit-learn's digits
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["evaluate.fd"] == run.metrics["evaluate"]["fd"]
    assert f"real test images {run.metrics['evaluate']['fd_real_test']:.4g}" in card.text
    for heading in ("Intended use", "Limits", "Scores", "Training"):
        assert f"\n\n## {heading}\n\n" in card.text
    assert "{{" not in card.text
    assert (card.data.library_name, "diffusers" in card.text) == ("latentline", False)
    assert f"`git checkout {run.revision}`" in card.text
    assert write_model_card(tmp_path) == tmp_path / "README.md"  # a card is replaced
    (tmp_path / "model_index.json").touch()
    pipeline = ModelCard.load(write_model_card(tmp_path))
    assert pipeline.data.library_name == "diffusers"
    assert 'DiffusionPipeline.from_pretrained(".", trust_remote_code=True)' in pipeline.text
    restricted = model_card(replace(run, data_card={"licence": "for research purposes only"}), root)
    assert (restricted.data.license, restricted.data.license_name) == ("other", "for research purposes only")


def test_another_readme_is_not_replaced(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    with pytest.raises(UserError, match=r"must not hold a README\.md of another kind"):
        write_model_card(finished.folder)
