"""Whatever DVC would stumble on in a watched folder is refused in one line."""

import os

import pytest

from latentline.core.errors import UserError
from latentline.core.watched import require_watchable, walk_watched


def _walk(root):
    return list(walk_watched("data.path", root, lambda name: name.startswith(".")))


def test_the_walk_is_ordered_enters_no_skipped_folder_and_takes_links_to_files_for_files(tmp_path):
    for name in ("x/b/2", "x/a/1", "x/.git/3", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x" / "a" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "x" / "a" / "broken").symlink_to(tmp_path / "gone")
    expected = [("", [".git", "a", "b"], []), ("a", [], ["1", "broken", "link"]), ("b", [], ["2"])]
    assert _walk(tmp_path / "x") == expected
    (tmp_path / "root").symlink_to(tmp_path / "x")
    assert _walk(tmp_path / "root") == expected


def test_a_link_to_a_folder_is_refused_however_deep(tmp_path):
    (tmp_path / "x" / "cat").mkdir(parents=True)
    (tmp_path / "x" / "cat" / "more").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"^data\.path \(.*cat/more, a link to a folder\) must be a folder, .*; copy"):
        _walk(tmp_path / "x")


def test_pipes_and_names_that_are_not_utf8_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for check in (_walk, lambda root: require_watchable("data.path", root)):
        with pytest.raises(
            UserError, match=r"^data\.path \(.*a\.png, a pipe, socket or device\) must be .*; remove it$"
        ):
            check(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(UserError, match=r"^data\.path \(.*\\xff\.png\) must have a name in UTF-8, .*; rename it$"):
        _walk(tmp_path)


def test_before_dvc_broken_links_are_refused_too(tmp_path):
    require_watchable("data.path", tmp_path / "absent")
    require_watchable("data.path", tmp_path)
    for target in ("gone", "a"):  # the second link leads to itself
        (tmp_path / "a").symlink_to(tmp_path / target)
        with pytest.raises(UserError, match=r"^data\.path \(.*/a, a broken link\) must lead to a file, .*; remove it$"):
            require_watchable("data.path", tmp_path)
        assert _walk(tmp_path) == [("", [], ["a"])]
        (tmp_path / "a").unlink()
