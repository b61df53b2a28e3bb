"""``manipulate`` edits the images and targets that its settings name, on a tiny run."""

import logging
import shutil

import pytest

from latentline.core.errors import UserError
from latentline.data.store import read_split
from support.small_kinds import with_everything

pytestmark = [pytest.mark.usefixtures("machine"), with_everything]


def test_images_are_edited_towards_as_many_targets_as_the_setting_says(small_copy, caplog):
    with caplog.at_level(logging.INFO):
        small_copy.run("manipulate", **{"manipulate.targets": 3})
    assert "editing towards 3 of 7 targets (manipulate.targets)" in caplog.messages
    assert small_copy.figure_size("manipulate/strips.png")[1] == 2 * (3 * 18 + 2)


def test_images_are_edited_towards_named_targets_and_an_unknown_name_is_refused(small_copy, caplog):
    small_copy.run("manipulate", **{"manipulate.target_names": ["dotted", "standing", "colour=red"]})
    assert small_copy.metrics("manipulate")["target_names"] == ["standing", "dotted", "colour=red"]
    with caplog.at_level(logging.INFO):
        small_copy.run("manipulate", **{"manipulate.target_names": ["lying"], "manipulate.source_class": "lying"})
    assert small_copy.metrics("manipulate") == {"targets": 0}
    assert any(message.startswith("not editing towards lying: ") for message in caplog.messages)
    with pytest.raises(
        UserError, match=r"^manipulate\.target_names.*flying.* one of lying, standing, dotted, colour=blue, "
    ):
        small_copy.run("manipulate", **{"manipulate.target_names": ["flying"]})


def test_one_image_alone_can_be_edited(small_copy):
    small_copy.run("manipulate", **{"manipulate.images": [4]})
    (label,) = read_split(small_copy.folder / "data" / "prepared", "test").labels.classes[[4]].tolist()
    other = ["standing", "lying"][label]
    assert other in small_copy.metrics("manipulate")["target_names"]
    assert small_copy.figure_size("manipulate/before_after.png")[0] == 2 * (18 + 2)


def test_files_replace_test_images_and_the_feature_extractor_labels_them(small_run, small_copy):
    for number in range(3):
        shutil.copy(small_copy.folder / "pictures" / f"{number}.png", small_copy.folder / "data" / "edit")
    small_copy.run("manipulate")
    assert small_copy.figure_size("manipulate/before_after.png")[0] <= 2 * (3 * 18 + 2)
    assert small_copy.metrics("manipulate")["ssim"] != small_run.metrics("manipulate")["ssim"]


@pytest.mark.parametrize(
    "params",
    [{"renoise": 0.9, "renoise_guidance_scale": 2.0}, {"direction": "mean_difference"}],
    ids=["sdedit", "means"],
)
def test_another_method_edits_the_same_targets_with_other_scores(small_run, small_copy, params):
    small_copy.run("manipulate", **{f"manipulate.{name}": value for name, value in params.items()})
    ours, before = small_copy.metrics("manipulate"), small_run.metrics("manipulate")
    assert ours["target_names"] == before["target_names"]
    assert ours["ssim"] != before["ssim"]
