"""Stage ``evaluate``: what it refuses before any work."""

import pytest

from latentline.core.errors import UserError
from latentline.core.files import write_sealed_json
from stages.evaluate import __main__ as evaluate


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("train", "test")])
def test_more_neighbours_than_a_split_has_are_refused_before_anything_else_is_read(workplace, write_params, split, other):
    write_params(workplace, {"evaluate.neighbours": 7})
    counts = {split: 7, other: 100, "val": 1}
    card = {"classes": [], "attributes": [], "shape": [1, 8, 8], "horizontal_flip": False}
    splits = {name: {"count": count, "shards": {}} for name, count in counts.items()}
    write_sealed_json(workplace / "data" / "prepared" / "card.json", {**card, "splits": splits})
    with pytest.raises(UserError, match=rf"evaluate\.neighbours: 7, but split {split} holds 7 images; .*; lower it") as caught:
        evaluate.main()
    assert "\n" not in str(caught.value)
