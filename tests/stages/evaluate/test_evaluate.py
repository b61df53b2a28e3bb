"""Stage ``evaluate`` refuses too many neighbours before any work, and draws nothing where it computes features."""

import pytest

from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.core.files import write_sealed_json
from stages.evaluate import __main__ as evaluate


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("train", "test")])
def test_more_neighbours_than_a_split_has_are_refused_before_anything_else_is_read(
    workplace, write_params, split, other
):
    write_params(workplace, {"evaluate.neighbours": 7})
    counts = {split: 7, other: 100, "val": 1}
    card = {"schema": [], "shape": [1, 8, 8], "horizontal_flip": False}
    splits = {name: {"count": count, "shards": {}} for name, count in counts.items()}
    write_sealed_json(workplace / "data" / "prepared" / "card.json", {**card, "splits": splits})
    with pytest.raises(
        UserError, match=rf"^evaluate\.neighbours \(7\) must be less than the 7 images of split {split}; lower it, or "
    ) as caught:
        evaluate.main()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["features", "accuracy_score"])
def test_what_computes_imports_neither_figures_nor_the_report(root, module):
    closure = {path.relative_to(root).as_posix() for path in module_closure(f"stages.evaluate.{module}", root)}
    assert "src/latentline/feature_extractors/features.py" in closure
    assert "stages/evaluate/report.py" not in closure
    assert [path for path in closure if path.startswith("src/latentline/figures/")] == []
