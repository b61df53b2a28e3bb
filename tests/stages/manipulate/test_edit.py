"""Edits in chunks: their order, what SDEdit is conditioned on, and what the resume key covers."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from latentline.autoencoders.identity import Identity
from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.attributes import Attribute
from latentline.core.closure import module_closure
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, build_schema
from latentline.editing.targets import all_targets
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from stages.manipulate.directions import Directions
from stages.manipulate.edit import Editor, edited_images
from stages.manipulate.edit_inputs import EditBatch

SCHEMA = build_schema(("cat", "dog"), (Attribute("smiling", "binary"),))
SHAPE = (1, 2, 2)
TARGETS = all_targets(SCHEMA)


@dataclass
class Params:
    strengths: list[float]
    count: int


class Recorder:
    """Stands in for SDEdit: records what it is given, and leaves the latents as they are."""

    def __init__(self) -> None:
        self.values = torch.empty(0)
        self.indices = torch.empty(0)

    def __call__(self, z0: Tensor, labels: LabelTable, indices: Tensor) -> Tensor:
        self.values, self.indices = labels.values, indices
        return z0


def _editor(sdedit: Recorder | None = None) -> Editor:
    stats = LatentStats(SHAPE, SCHEMA, "ab", Normalizer(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)))
    return Editor(TrainedAutoencoder(Identity(SHAPE), torch.device("cpu"), "ab", SHAPE), stats, sdedit)


def _batch() -> EditBatch:
    values = torch.tensor([[0.0, 1], [1, 0], [0, 0]])
    z0 = torch.tensor([-0.5, 0.0, 0.5])[:, None].expand(3, 4)
    images = torch.zeros(3, *SHAPE, dtype=torch.uint8)
    return EditBatch(torch.tensor([5, 9, 2]), images, LabelTable(SCHEMA, values), z0, None)


def test_edits_that_leave_the_finite_numbers_stop_with_the_setting(workplace):
    direction = torch.full((4,), 0.5)
    with pytest.raises(UserError, match=r"^manipulate\.strengths must give finite latents, not NaN or .* in 3 of 3; "):
        _editor().edit(_batch(), TARGETS[1], direction, torch.full((3,), torch.inf))


def test_sdedit_is_conditioned_on_the_target_only_where_the_image_moves_towards_it():
    sdedit, batch = Recorder(), _batch()
    direction = torch.tensor([0.5, 0.5, 0.5, 0.5])
    images = _editor(sdedit).edit(batch, TARGETS[1], direction, torch.tensor([0.4, 0.0, -0.4]))
    assert torch.equal(sdedit.values, torch.tensor([[1.0, 1], [1, 0], [0, 0]]))
    assert torch.equal(sdedit.indices, batch.indices)
    expected = torch.tensor([-0.3, 0.0, 0.3])  # pixels in [-1, 1] are the latents, moved by 0.4 / 2
    torch.testing.assert_close(images.float().mean(dim=(1, 2, 3)), (expected + 1) * 127.5, atol=0.51, rtol=0)


def test_edits_come_by_strength_then_kind_of_direction_then_target_and_are_stored_as_chunks(workplace):
    vectors = torch.eye(4)[:2]
    direction_sets = [Directions(vectors, torch.full((2,), 0.2)), Directions(-vectors, torch.full((2,), 0.2))]
    targets, batch, editor = TARGETS[1:], _batch(), _editor()
    state = ResumeFile("manipulate", {}, ["stages.manipulate.edit"])
    with resumable_map(state, 1000) as chunks:
        edited = list(edited_images(Params([0.0, 1.0], 1), targets, direction_sets, batch, editor, chunks))
        assert chunks.computed == 8
    expected = []
    for strength in (0.0, 1.0):
        for directions in direction_sets:
            for target, vector in zip(targets, directions.vectors, strict=True):
                first = batch.take(target.non_matching(batch.labels.values, 1))
                expected.append(editor.edit(first, target, vector, torch.tensor([0.2 * strength])))
    assert [image.tolist() for image in edited] == [image.tolist() for image in expected]
    assert not torch.equal(edited[4], edited[6])


def test_what_the_edits_depend_on_includes_targets_and_inputs_and_no_figure_or_score(root):
    closure = {path.relative_to(root).as_posix() for path in module_closure("stages.manipulate.edit", root)}
    assert {f"stages/manipulate/{name}.py" for name in ("directions", "edit_inputs", "sdedit", "params")} <= closure
    assert "src/latentline/editing/targets.py" in closure
    scoring = ("figures/", "evaluation/", "report.py", "measure.py", "__main__.py")
    assert not [path for path in closure if any(part in path for part in scoring)]
