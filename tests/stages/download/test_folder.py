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
from stages.download.prepare import Options, prepare
from stages.download.registry import read_source
from support.source_files import encoded, flat, pixels, read, options_for

OPTIONS = Options(
    image_size=None,
    channels=None,
    shares={"val": 0.2, "test": 0.2},
    limit=None,
    max_unreadable=0.0,
    horizontal_flip=False,
    seed=0,
    workers=0,
)


def _fill(folder: Path, names: list[str], first: int = 0) -> Path:
    """Image k is flat, of level k."""
    for level, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(flat(level)))
    return folder


@pytest.fixture
def many(tmp_path) -> Path:
    return _fill(tmp_path / "many", [f"{name}/{number:02d}.png" for name in ("cat", "dog") for number in range(30)])


def _prepared(folder: Path, target: Path, **params):
    report = prepare(read("image_folder", target, path=folder), target / "prepared", replace(OPTIONS, **params))
    return report, {name: read_split(target / "prepared", name) for name in ("train", "val", "test")}


def _levels(splits) -> dict[str, list[int]]:
    return {name: split.images.load()[:, 0, 0, 0].tolist() for name, split in splits.items()}


def test_the_first_sub_folder_is_the_class(tmp_path):
    folder = _fill(
        tmp_path / "x", ["b/1.png", "a/deep/er/2.PNG", "a/0.png", "b/.hidden.png", ".hidden/3.png", "b/notes.txt"]
    )
    source = read("image_folder", tmp_path, path=folder)
    train = source.splits["train"]
    assert source.card.classes == ("a", "b")
    assert [train.images.name(row) for row in range(len(train.images))] == ["a/0.png", "a/deep/er/2.PNG", "b/1.png"]
    assert train.labels.tolist() == [0, 0, 1]
    assert pixels(source, "train", 0).tolist() == np.full((3, 4, 4), 2).tolist()


def test_a_folder_without_sub_folders_is_unlabelled(tmp_path):
    source = read("image_folder", tmp_path, path=_fill(tmp_path / "x", ["1.png", "2.png"]))
    assert source.card.classes == ()
    assert (source.splits["train"].labels, source.splits["train"].attributes) == (None, None)


@pytest.mark.parametrize(
    ("names", "hint"), [(["a/1.png", "2.png"], "beside"), ([], "no image"), (["a.tif"], "1 of .tif")]
)
def test_a_folder_that_makes_no_sense_is_refused_with_the_remedy(tmp_path, names, hint):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=hint) as caught:
        read("image_folder", tmp_path, path=_fill(tmp_path / "x", names))
    assert "data.path" in str(caught.value)


def test_places_that_do_not_exist_are_named_with_their_knob(tmp_path, many):
    with pytest.raises(UserError, match=r"data\.path: .*nowhere"):
        read("image_folder", tmp_path)
    with pytest.raises(UserError, match=r"data\.labels: .*absent"):
        read("image_folder", tmp_path, path=many, labels=tmp_path / "absent.csv")


def test_every_image_is_in_one_split_with_its_label(tmp_path, many):
    _, splits = _prepared(many, tmp_path)
    levels = _levels(splits)
    assert sorted(chain(*levels.values())) == list(range(60))
    assert all(len(found) >= 4 for found in levels.values())
    for name, split in splits.items():
        assert split.labels.tolist() == [level // 30 for level in levels[name]]
    assert levels["train"] != sorted(levels["train"])


def test_splits_are_stable_when_images_are_added_renamed_or_removed(tmp_path, many):
    before = _levels(_prepared(many, tmp_path)[1])
    _fill(many, [f"cat/new{number}.png" for number in range(40)], first=100)
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
    report, few = _prepared(many, tmp_path, limit=limit)
    assert _levels(few) == {name: levels[:limit] for name, levels in whole.items()}
    for name, levels in _levels(few).items():
        assert report.stats[name].count == len(levels)
        assert report.stats[name].total == sum(levels) * 48


def test_three_images_are_enough_and_two_are_not(tmp_path):
    folder = _fill(tmp_path / "x", ["1.png", "2.png", "3.png"])
    assert {name: len(split) for name, split in _prepared(folder, tmp_path)[1].items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }
    (folder / "3.png").unlink()
    with pytest.raises(UserError, match=r"data\.splits: 2 readable images"):
        _prepared(folder, tmp_path)


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, many):
    contents = []
    for workers in (0, 1, 3):
        _prepared(many, tmp_path, workers=workers, image_size=(6, 5))
        contents.append({path.name: path.read_bytes() for path in sorted((tmp_path / "prepared").iterdir())})
    assert contents[0] == contents[1] == contents[2]


def test_mixed_sizes_become_the_commonest_one_and_mixed_colours_become_colour(tmp_path):
    folder = _fill(tmp_path / "x", [f"{number}.png" for number in range(5)])
    for number, size in enumerate([(8, 6), (8, 6), (30, 2)]):
        (folder / f"other{number}.png").write_bytes(encoded(flat(100 + number, size, channels=1)))
    report, splits = _prepared(folder, tmp_path)
    assert report.shape == (3, 4, 4)
    assert sorted(chain(*_levels(splits).values())) == [0, 1, 2, 3, 4, 100, 101, 102]
    assert _prepared(folder, tmp_path, image_size=(7, 9), channels=1)[0].shape == (1, 7, 9)
    assert read_card(tmp_path / "prepared").shape == (1, 7, 9)


def test_of_equally_common_sizes_the_largest_is_taken(tmp_path):
    folder = _fill(tmp_path / "x", ["1.png", "2.png"])
    for number in range(2):
        (folder / f"wide{number}.png").write_bytes(encoded(flat(9 + number, (4, 6))))
    assert _prepared(folder, tmp_path)[0].shape == (3, 4, 6)


def test_unreadable_files_are_left_out_and_listed_until_there_are_too_many(tmp_path, many):
    (many / "cat" / "05.png").write_bytes(b"no image")
    (many / "dog" / "05.png").write_bytes(
        encoded(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))[:-25]
    )  # header is whole
    with pytest.raises(UserError, match=r"data\.max_unreadable: \d of 60 images"):
        _prepared(many, tmp_path)
    assert not (tmp_path / "prepared").exists()
    report, splits = _prepared(many, tmp_path, max_unreadable=0.05)
    assert set(report.unreadable) == {"cat/05.png", "dog/05.png"}
    assert "not a PNG" in report.unreadable["cat/05.png"]
    assert sorted(chain(*_levels(splits).values())) == [level for level in range(60) if level not in (5, 35)]


def test_a_file_that_cannot_be_read_counts_as_unreadable(tmp_path, many):
    (many / "cat" / "05.png").unlink()
    (many / "cat" / "05.png").symlink_to(many / "gone.png")
    report, _ = _prepared(many, tmp_path, max_unreadable=0.05)
    assert report.unreadable == {"cat/05.png": "No such file or directory"}


def test_equal_images_share_a_split_and_equal_pixels_are_found_wherever_they_are(tmp_path, many):
    for number in range(5):
        (many / "cat" / f"copy{number}.png").write_bytes((many / "cat" / "07.png").read_bytes())
    report, splits = _prepared(many, tmp_path)
    where = [name for name, levels in _levels(splits).items() for level in levels if level == 7]
    assert len(where) == 6
    assert len(set(where)) == 1
    found = find_duplicates({name: np.concatenate(split_stats.digests) for name, split_stats in report.stats.items()})
    assert found.within == {"train": 0, "val": 0, "test": 0} | {where[0]: 5}
    assert found.across == 0

    for level in range(30):  # the same pixels as other bytes: a split of their own
        (many / "dog" / f"{level}.bmp").write_bytes(encoded(flat(level), "BMP"))
    report, splits = _prepared(many, tmp_path)
    found = find_duplicates({name: np.concatenate(split_stats.digests) for name, split_stats in report.stats.items()})
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


def test_the_card_says_what_people_should_know(tmp_path, many):
    _prepared(many, tmp_path, horizontal_flip=True)
    card = json.loads((tmp_path / "prepared" / "card.json").read_text())
    assert card["name"] == "image_folder"
    assert str(tmp_path) not in json.dumps(card)
    assert read_card(tmp_path / "prepared").horizontal_flip is True


def _csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path / "labels.csv"


def _table(tmp_path: Path, text: str):
    folder = _fill(tmp_path / "x", ["a.png", "b.png", "sub/c.png", "d.png"])
    return read_source(options_for("image_folder", tmp_path, path=folder, labels=_csv(tmp_path, text)))


def test_a_csv_gives_classes_attributes_of_every_kind_and_splits(tmp_path):
    source = _table(
        tmp_path,
        "file,label,smiling,glasses,old,age,hair,split\n"
        "a.png,cat,1,True,-1,3.5,None,train\n"
        "b.png,dog,0,False,1,70,brown,test\n"
        "sub/c.png,cat,1,True,1,-2,brown,train\n",
    )
    assert source.card.classes == ("cat", "dog")
    kinds = {known.name: (known.kind, known.classes) for known in source.card.attributes}
    assert kinds == {
        "smiling": ("binary", ()),
        "glasses": ("binary", ()),
        "old": ("binary", ()),
        "age": ("continuous", ()),
        "hair": ("categorical", ("None", "brown")),
    }
    train, test = source.splits["train"], source.splits["test"]
    assert train.attributes.tolist() == [[1, 1, 0, 3.5, 0], [1, 1, 1, -2, 1]]
    assert test.attributes.tolist() == [[0, 0, 1, 70, 1]]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0], [1])
    assert [train.images.name(row) for row in range(2)] == ["a.png", "sub/c.png"]


def test_a_csv_of_file_names_alone_chooses_images_and_labels_nothing(tmp_path):
    source = _table(tmp_path, "file\na.png\nd.png\n")
    assert len(source.splits["train"].images) == 2
    assert (source.card.classes, source.card.attributes) == ((), ())
    assert source.splits["train"].attributes is None


def test_numbers_as_classes_are_sorted_as_numbers(tmp_path):
    source = _table(tmp_path, "file,label\na.png,10\nb.png,9\nsub/c.png,9\n")
    assert source.card.classes == ("9", "10")
    assert source.splits["train"].labels.tolist() == [1, 0, 0]


def test_a_row_without_a_file_counts_as_unreadable(tmp_path):
    source = _table(
        tmp_path,
        "file,age\n" + "".join(f"{name},1.5\n" for name in ("a.png", "b.png", "sub/c.png", "d.png", "gone.png")),
    )
    report = prepare(source, tmp_path / "prepared", replace(OPTIONS, max_unreadable=0.2))
    assert report.unreadable == {"gone.png": "No such file or directory"}
    assert read_split(tmp_path / "prepared", "val").attributes.tolist() == [[1.5]]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("file,label\n", "no rows"),
        ("file,age\na.png,\n", "row 2 has no 'age'"),
        ("file,age\na.png,1\na.png,2\n", "row 3 names 'a.png' a second time"),
        ("file,age\n../a.png,1\n", "inside data.path"),
        ("file,age\n/etc/a.png,1\n", "inside data.path"),
        ("file,split\na.png,training\n", "'training', expected one of train, val, test"),
        ("file,split\na.png,test\n", "no image to train"),
        ("file,label\na.png,1.5\n", "no class"),
        ("file,age\na.png,inf\nb.png,2\n", "holds inf, which is infinite"),
        ("file,age\na.png,2\nb.png,-1e39\n", "holds -1e\\+39, which is infinite in float32"),
        ('file,age\n"a.png,1\n', "not a readable CSV"),
        ("file,caption\n" + "".join(f"{n}.png,text {n}\n" for n in range(1001)), "1001 different values"),
    ],
)
def test_a_bad_csv_is_refused_in_one_line_that_names_the_knob(tmp_path, text, hint):
    with pytest.raises(UserError, match=hint) as caught:
        _table(tmp_path, text)
    assert "data.labels" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(UserError, match="not a readable CSV"):
        read("image_folder", tmp_path, path=_fill(tmp_path / "x", ["1.png"]), labels=tmp_path / "labels.csv")
