"""A user's own folder: names, labels, splits, sizes, damage and duplicates."""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from latentline.core.errors import UserError
from latentline.data.store import read_card, read_split
from stages.download.duplicates import find_duplicates
from stages.download.prepare import prepare
from support.source_files import PREPARE_OPTIONS, encoded, fill_folder, flat, pixels, read


@pytest.fixture
def many(tmp_path) -> Path:
    return fill_folder(
        tmp_path / "many", [f"{name}/{number:02d}.png" for name in ("cat", "dog") for number in range(30)]
    )


def _prepared(folder: Path, target: Path, **params):
    result = prepare(read("image_folder", target, path=folder), target / "prepared", replace(PREPARE_OPTIONS, **params))
    return result, {name: read_split(target / "prepared", name) for name in ("train", "val", "test")}


def _levels(splits) -> dict[str, list[int]]:
    return {name: split.images.to_memory()[:, 0, 0, 0].tolist() for name, split in splits.items()}


def test_the_first_sub_folder_is_the_class(tmp_path):
    folder = fill_folder(
        tmp_path / "x", ["b/1.png", "a/deep/er/2.PNG", "a/0.png", "b/.hidden.png", ".hidden/3.png", "b/notes.txt"]
    )
    source = read("image_folder", tmp_path, path=folder)
    train = source.splits["train"]
    assert source.card.classes == ("a", "b")
    assert [train.images.name(row) for row in range(len(train.images))] == ["a/0.png", "a/deep/er/2.PNG", "b/1.png"]
    assert train.labels.tolist() == [0, 0, 1]
    assert pixels(source, "train", 0).tolist() == np.full((3, 4, 4), 2).tolist()


def test_a_folder_without_sub_folders_is_unlabelled(tmp_path):
    source = read("image_folder", tmp_path, path=fill_folder(tmp_path / "x", ["1.png", "2.png"]))
    assert source.card.classes == ()
    assert (source.splits["train"].labels, source.splits["train"].attributes) == (None, None)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["a/1.png", "2.png"], "1 images beside its sub-folders, such as 2.png"),
        ([], r"with no file\) must contain images"),
        (["notes.txt"], r"with 1 of .txt\) must contain images"),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused_with_the_remedy(tmp_path, names, hint):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=hint) as caught:
        read("image_folder", tmp_path, path=fill_folder(tmp_path / "x", names))
    assert "data.path" in str(caught.value)


def test_paths_that_do_not_exist_are_named_with_their_setting(tmp_path, many):
    with pytest.raises(UserError, match=r"data\.path \(.*nowhere\) must be the folder"):
        read("image_folder", tmp_path)
    with pytest.raises(UserError, match=r"data\.labels \(.*absent\.csv\) must be a CSV file"):
        read("image_folder", tmp_path, path=many, labels=tmp_path / "absent.csv")


def test_every_image_is_in_one_split_with_its_label(tmp_path, many):
    _, splits = _prepared(many, tmp_path)
    levels = _levels(splits)
    assert sorted(chain(*levels.values())) == list(range(60))
    assert all(len(found) >= 4 for found in levels.values())
    for name, split in splits.items():
        assert split.labels.classes.tolist() == [level // 30 for level in levels[name]]
    assert levels["train"] != sorted(levels["train"])


def test_splits_are_stable_when_images_are_added_renamed_or_removed(tmp_path, many):
    before = _levels(_prepared(many, tmp_path)[1])
    fill_folder(many, [f"cat/new{number}.png" for number in range(40)], first=100)
    (many / "dog" / "00.png").unlink()  # level 30
    (many / "dog" / "01.png").rename(many / "cat" / "moved.png")
    after = _levels(_prepared(many, tmp_path)[1])
    for name, levels in before.items():
        assert [level for level in after[name] if level < 100] == [level for level in levels if level != 30]
    assert any(level >= 100 for level in after["test"])


def test_the_seed_and_nothing_else_decides_the_splits(tmp_path, many):
    one, other = _levels(_prepared(many, tmp_path)[1]), _levels(_prepared(many, tmp_path, seed=1)[1])
    assert one == _levels(_prepared(many, tmp_path)[1])
    assert all(set(one[name]) != set(other[name]) for name in one)


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_limit_keeps_the_first_images_of_each_split(tmp_path, many, limit):
    whole = _levels(_prepared(many, tmp_path)[1])
    result, few = _prepared(many, tmp_path, limit=limit)
    assert _levels(few) == {name: levels[:limit] for name, levels in whole.items()}
    for name, levels in _levels(few).items():
        assert result.stats[name].count == len(levels)
        assert result.stats[name].total == sum(levels) * 48


def test_three_images_are_enough_and_two_are_not(tmp_path):
    folder = fill_folder(tmp_path / "x", ["1.png", "2.png", "3.png"])
    assert {name: len(split) for name, split in _prepared(folder, tmp_path)[1].items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }
    (folder / "3.png").unlink()
    with pytest.raises(UserError, match=r"data \(2 readable images\) must have one for each of train, test, val"):
        _prepared(folder, tmp_path)


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, many):
    contents = []
    for workers in (0, 1, 3):
        _prepared(many, tmp_path, workers=workers, image_size=(6, 5))
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / "prepared").iterdir())})
    assert contents[0] == contents[1] == contents[2]


def test_mixed_sizes_become_the_commonest_one_and_mixed_colours_become_colour(tmp_path):
    folder = fill_folder(tmp_path / "x", [f"{number}.png" for number in range(5)])
    for number, size in enumerate([(8, 6), (8, 6), (30, 2)]):
        (folder / f"other{number}.png").write_bytes(encoded(flat(100 + number, size, channels=1)))
    result, splits = _prepared(folder, tmp_path)
    assert result.shape == (3, 4, 4)
    assert sorted(chain(*_levels(splits).values())) == [0, 1, 2, 3, 4, 100, 101, 102]
    assert _prepared(folder, tmp_path, image_size=(7, 9), channels=1)[0].shape == (1, 7, 9)
    assert read_card(tmp_path / "prepared").shape == (1, 7, 9)


def test_of_equally_common_sizes_the_largest_is_taken(tmp_path):
    folder = fill_folder(tmp_path / "x", ["1.png", "2.png"])
    for number in range(2):
        (folder / f"wide{number}.png").write_bytes(encoded(flat(9 + number, (4, 6))))
    assert _prepared(folder, tmp_path)[0].shape == (3, 4, 6)


def test_unreadable_files_are_left_out_and_listed_until_there_are_too_many(tmp_path, many):
    (many / "cat" / "05.png").write_bytes(b"no image")
    (many / "dog" / "05.png").write_bytes(
        encoded(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))[:-25]
    )  # its header is whole
    with pytest.raises(
        UserError, match=r"data\.max_unreadable \(0\.0\) must be at least the unreadable fraction, \d of 60"
    ):
        _prepared(many, tmp_path)
    assert not (tmp_path / "prepared").exists()
    result, splits = _prepared(many, tmp_path, max_unreadable=0.05)
    assert set(result.unreadable.reasons) == {"cat/05.png", "dog/05.png"}
    assert "not a PNG" in result.unreadable.reasons["cat/05.png"]
    assert sorted(chain(*_levels(splits).values())) == [level for level in range(60) if level not in (5, 35)]


def test_a_file_that_cannot_be_read_counts_as_unreadable(tmp_path, many):
    (many / "cat" / "05.png").unlink()
    (many / "cat" / "05.png").symlink_to(many / "gone.png")
    result, _ = _prepared(many, tmp_path, max_unreadable=0.05)
    assert result.unreadable.reasons == {"cat/05.png": "No such file or directory"}


def test_equal_images_share_a_split_and_equal_pixels_are_found_wherever_they_are(tmp_path, many):
    for number in range(5):
        (many / "cat" / f"copy{number}.png").write_bytes((many / "cat" / "07.png").read_bytes())
    result, splits = _prepared(many, tmp_path)
    where = [name for name, levels in _levels(splits).items() for level in levels if level == 7]
    assert len(where) == 6
    assert len(set(where)) == 1
    found = find_duplicates({name: np.concatenate(split.digests) for name, split in result.stats.items()})
    assert found.within == {"train": 0, "val": 0, "test": 0} | {where[0]: 5}
    assert found.across == 0

    for level in range(30):  # the same pixels as other bytes: a split of their own
        (many / "dog" / f"{level}.bmp").write_bytes(encoded(flat(level), "BMP"))
    result, splits = _prepared(many, tmp_path)
    found = find_duplicates({name: np.concatenate(split.digests) for name, split in result.stats.items()})
    train, val, test = (_levels(splits)[name] for name in ("train", "val", "test"))
    assert found.across == sum(level in train for level in val) + sum(level in train + val for level in test) > 0


def test_duplicates_are_counted_within_and_across_splits_and_grouped():
    texts = {"train": "abab", "val": "bcc", "test": "dcaa"}
    digests = {name: np.array([letter.encode().ljust(16) for letter in text], "V16") for name, text in texts.items()}
    found = find_duplicates(digests)
    assert found.within == {"train": 2, "val": 1, "test": 1}
    assert found.across == 4  # b of val; c, a, a of test
    splits = [" ".join(split for split, _ in group) for group in found.groups]
    assert splits == ["train train test test", "train train val", "val val test"]
    assert found.groups[2] == [("val", 1), ("val", 2), ("test", 1)]


def test_the_card_describes_the_data_set_without_its_path(tmp_path, many):
    _prepared(many, tmp_path, horizontal_flip=True)
    card = json.loads((tmp_path / "prepared" / "card.json").read_text())
    assert card["name"] == "image_folder"
    assert str(tmp_path) not in json.dumps(card)
    assert read_card(tmp_path / "prepared").horizontal_flip is True
