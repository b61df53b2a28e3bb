"""A large file is hashed once and again after each change, however small; a damaged note counts for nothing."""

import os
import time
from pathlib import Path

import pytest

from latentline.core import files
from latentline.core.errors import UserError
from latentline.core.files import digests, noted_sha256, require_sha256, sha256_bytes, write_sealed_json


@pytest.fixture
def hashed(workplace: Path, monkeypatch) -> list[Path]:
    """Note files of any size, in a repository; return the list of files that are read."""
    (workplace / ".state").mkdir()
    read: list[Path] = []
    sha256_file = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: (read.append(path), sha256_file(path))[1])
    monkeypatch.setattr(files, "_NOTED_BYTES", 1)
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    return read


@pytest.fixture
def shard(workplace: Path, hashed: list[Path]) -> Path:
    """Return a file that is noted."""
    path = workplace / "shard"
    path.write_bytes(b"whole")
    time.sleep(0.01)  # beyond the clock's tick
    assert noted_sha256(path) == sha256_bytes(b"whole")
    assert len(list((workplace / ".state" / "digests").iterdir())) == 1
    hashed.clear()
    return path


def test_a_file_that_has_not_changed_is_not_read_again(shard, hashed, tmp_path, monkeypatch):
    digest = sha256_bytes(b"whole")
    assert noted_sha256(shard) == digest
    require_sha256(Path("shard"), digest, tmp_path / "card.json", "download")
    assert digests([shard]) == {str(shard): digest}
    with pytest.raises(UserError, match="must have the sha256 abababababab"):
        require_sha256(shard, "ab" * 32, tmp_path / "card.json", "download")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # the notes of the main checkout
    assert noted_sha256(shard) == digest
    assert hashed == []


def _flip(path: Path) -> None:
    path.write_bytes(b"whold")


def _flip_and_restore_the_time(path: Path) -> None:
    stat = path.stat()
    _flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"whold")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [_flip, _flip_and_restore_the_time, _replace])
def test_a_file_changed_in_any_way_is_hashed_again(shard, hashed, tmp_path, change):
    time.sleep(0.01)
    change(shard)
    with pytest.raises(UserError, match="must have the sha256"):
        require_sha256(shard, sha256_bytes(b"whole"), tmp_path / "card.json", "download")
    assert hashed == [shard]
    assert noted_sha256(shard) == sha256_bytes(b"whold")


def test_a_damaged_note_is_ignored_and_written_anew(shard, hashed, workplace):
    (note,) = (workplace / ".state" / "digests").iterdir()
    content = note.read_bytes()
    for damaged in (b"", content[:-9], content.replace(b"a", b"b", 1), b"[]", b"\xff"):
        note.write_bytes(damaged)
        assert noted_sha256(shard) == sha256_bytes(b"whole")
        assert note.read_bytes() == content
    assert len(hashed) == 5
    write_sealed_json(note, {"digest": 3})  # whole, and of another form
    assert noted_sha256(shard) == sha256_bytes(b"whole")


def test_a_file_that_has_just_changed_is_not_noted_since_it_may_change_again_unnoticed(shard, hashed, monkeypatch):
    monkeypatch.setattr(files, "_SETTLED_NS", 60 * 10**9)
    _flip(shard)
    for _ in range(2):
        assert noted_sha256(shard) == sha256_bytes(b"whold")
    assert len(hashed) == 2


def test_small_files_and_files_outside_a_repository_leave_no_note(workplace, hashed, monkeypatch, tmp_path):
    path = workplace / "shard"
    path.write_bytes(b"whole")
    with monkeypatch.context() as patch:
        patch.setattr(files, "_NOTED_BYTES", 6)
        noted_sha256(path)
    (workplace / ".state").rmdir()
    noted_sha256(path)
    assert [entry.name for entry in workplace.iterdir()] == ["shard"]
    with pytest.raises(UserError, match="is missing"):
        require_sha256(workplace / "absent", "ab" * 32, tmp_path / "card.json", "download")


def test_a_note_that_cannot_be_written_does_no_harm(workplace, hashed):
    (workplace / ".state" / "digests").touch()  # a file where the folder should be
    path = workplace / "shard"
    path.write_bytes(b"whole")
    time.sleep(0.01)
    assert noted_sha256(path) == noted_sha256(path) == sha256_bytes(b"whole")
    assert len(hashed) == 2
