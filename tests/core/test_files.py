"""Files appear whole or not at all, and damaged ones name themselves and the stage that writes them."""

import hashlib
import json
from pathlib import Path

import pytest

from latentline.core.errors import UserError
from latentline.core.files import (
    canonical_json,
    read_json,
    read_sealed_json,
    replaced_file,
    replaced_folder,
    require_sha256,
    sha256_bytes,
    sha256_file,
    write_json,
    write_metrics,
    write_sealed_json,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_replaced_file_holds_the_new_content_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for content in ("first", "second"):
        with replaced_file(path) as temporary:
            temporary.write_text(content)
        assert path.read_text() == content
        assert _names(path.parent) == ["file.txt"]


def test_until_it_is_whole_a_replaced_file_shows_its_old_content(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replaced_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file_and_leaves_nothing_half(tmp_path, interruption):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(interruption), replaced_file(path) as temporary:
        temporary.write_text("half")
        raise interruption
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file.txt"]


def test_an_exception_makes_no_new_file(tmp_path):
    with pytest.raises(RuntimeError), replaced_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert _names(tmp_path) == []


def test_a_replaced_folder_holds_only_what_was_written_last(tmp_path):
    path = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with replaced_folder(path) as temporary:
            (temporary / name).write_text(name)
        assert _names(path) == [name]
        assert _names(path.parent) == ["folder"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_exception_keeps_the_old_folder_and_leaves_nothing_half(tmp_path, interruption):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "kept").write_text("old")
    with pytest.raises(interruption), replaced_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise interruption
    assert _names(path) == ["kept"]
    assert _names(tmp_path) == ["folder"]


def test_what_a_killed_run_left_behind_does_not_enter_the_next_folder(tmp_path):
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "folder") as temporary:
        left_behind = temporary
        raise RuntimeError
    left_behind.mkdir()
    (left_behind / "stale").write_text("from a killed run")
    with replaced_folder(tmp_path / "folder") as temporary:
        (temporary / "fresh").write_text("")
    assert _names(tmp_path / "folder") == ["fresh"]


def test_canonical_json_is_the_same_for_any_insertion_order():
    one = {"b": [1, 2.5, None], "a": {"y": True, "x": "é"}}
    other = {"a": {"x": "é", "y": True}, "b": [1, 2.5, None]}
    assert canonical_json(one) == canonical_json(other)
    assert json.loads(canonical_json(one)) == one


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_json_cannot_hold(tmp_path, number):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": number})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"x": number})
    assert _names(tmp_path) == []


def test_metrics_keep_six_significant_digits_at_any_depth(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(
        path,
        {
            "small": 1.23456789e-7,
            "large": 123456789.0,
            "list": [0.1 + 0.2],
            "count": 123456789,
            "deep": {"flag": True, "name": "x"},
        },
    )
    expected = {
        "small": 1.23457e-7,
        "large": 123457000.0,
        "list": [0.3],
        "count": 123456789,
        "deep": {"flag": True, "name": "x"},
    }
    assert json.loads(path.read_text()) == expected


def test_written_json_has_sorted_keys_and_reads_back(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": [1.5, "two"]})
    assert read_json(path, "download") == {"a": [1.5, "two"], "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b"\xff\xfe\x00", b"not json"])
def test_a_json_file_that_cannot_be_read_names_itself_and_the_stage_that_makes_it(tmp_path, content):
    path = tmp_path / "card.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path, "download")
    assert str(path) in str(caught.value)
    assert "dvc repro download" in str(caught.value)


def test_digests_are_sha256(tmp_path):
    content = bytes(range(256)) * 300
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == sha256_bytes(content) == hashlib.sha256(content).hexdigest()


def test_a_sealed_record_comes_back_and_any_other_value_is_noticed(tmp_path):
    path, value = tmp_path / "x.json", {"mean": [0.125, -3.0], "classes": ["a", "é"], "deep": {"count": 12}}
    write_sealed_json(path, value)
    assert read_sealed_json(path, "download") == value
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert (
                read_sealed_json(path, "download") == value
            )  # a space became a line's end, or an escape its other form
        except UserError as error:
            assert "dvc repro download" in str(error)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "3", "{}", '{"sha256": 1}', '{"sha256": "x", "a": NaN}', "[" * 900 + "]" * 900, "[" * 100_000],
)
def test_a_record_without_its_seal_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json is .*; remove it and run `dvc repro download`"):
        read_sealed_json(tmp_path / "x.json", "download")


def test_a_file_that_is_not_the_one_described_is_refused_with_both_digests(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"whole")
    require_sha256(path, hashlib.sha256(b"whole").hexdigest(), tmp_path / "card.json", "download")
    path.write_bytes(b"other")
    with pytest.raises(
        UserError,
        match=r"\(sha256 d9298a10d1b0\) must have the sha256 abababababab that .*card\.json stores; "
        "remove it and run `dvc repro download`",
    ):
        require_sha256(path, "ab" * 32, tmp_path / "card.json", "download")
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match="dvc repro download"):
            require_sha256(missing, "ab" * 32, tmp_path / "card.json", "download")
