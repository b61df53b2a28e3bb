"""Files come from a folder or from the first address that works, else an error with the remedy; nothing hangs."""

import gzip
import hashlib
import socket
import threading

import pytest

from latentline.core.errors import UserError
from stages.download import fetch
from stages.download.fetch import Checksum, RemoteFile, SourceError, http_download, obtain

SECONDS = 0.3  # how long these tests wait for a silent server
CONTENT = bytes(range(256)) * 100


def _file(*urls: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("x.bin", urls, Checksum("sha256", hashlib.sha256(content).hexdigest()))


def _obtain(tmp_path, *files: RemoteFile, root=None):
    return obtain(list(files), root=root, downloads=tmp_path / "downloads", timeout_seconds=SECONDS)


def test_a_file_is_fetched_verified_and_kept_so_that_it_is_fetched_once(tmp_path, server):
    server.files["x.bin"] = CONTENT
    for _ in range(2):
        assert _obtain(tmp_path, _file(server.address + "x.bin"))["x.bin"].read_bytes() == CONTENT
    assert server.asked == ["/x.bin"]


def test_a_kept_file_that_was_damaged_is_fetched_again(tmp_path, server):
    server.files["x.bin"] = CONTENT
    path = _obtain(tmp_path, _file(server.address + "x.bin"))["x.bin"]
    path.write_bytes(b"other")
    assert _obtain(tmp_path, _file(server.address + "x.bin"))["x.bin"].read_bytes() == CONTENT


def test_the_next_address_serves_when_others_are_gone_silent_or_send_other_bytes(tmp_path, server):
    server.files |= {"x.bin": CONTENT, "other.bin": b"other"}
    urls = [server.address + name for name in ("gone", "silent", "stalls", "other.bin", "x.bin")]
    assert _obtain(tmp_path, _file(*urls))["x.bin"].read_bytes() == CONTENT
    assert len(server.asked) == 5
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["x.bin"]


def test_when_nothing_works_each_failure_is_in_the_message(tmp_path, server):
    server.files["other.bin"] = b"other"
    with pytest.raises(SourceError) as caught:
        _obtain(tmp_path, _file(server.address + "gone", server.address + "other.bin"))
    for hint in ("404", "(sha256 ", "must have the sha256 "):
        assert hint in str(caught.value)
    with pytest.raises(SourceError, match="no address"):
        _obtain(tmp_path, _file())
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize("name", ["silent", "stalls"])
def test_a_server_that_falls_silent_is_given_up(tmp_path, server, name):
    with pytest.raises(SourceError, match="timed out"):
        http_download(server.address + name, tmp_path / "x", None, SECONDS)
    assert not server.released.is_set()


def test_a_server_that_trickles_or_never_ends_is_given_up(tmp_path, server, monkeypatch):
    server.files["x"] = bytes(100)
    with monkeypatch.context() as patched:
        patched.setattr(fetch, "_GRACE_SECONDS", 0.0)
        patched.setattr(fetch, "_SLOWEST", 1e15)
        with pytest.raises(SourceError, match="only 100 bytes"):
            http_download(server.address + "x", tmp_path / "x", None, 10)
    monkeypatch.setattr(fetch, "_LARGEST", 10)
    with pytest.raises(SourceError, match="more than 10 bytes"):
        http_download(server.address + "x", tmp_path / "x", None, 10)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_named_by_the_user_is_the_only_source_and_is_verified(tmp_path, server):
    server.files["x.bin"] = CONTENT
    root = tmp_path / "root"
    root.mkdir()
    file = _file(server.address + "x.bin")
    with pytest.raises(SourceError, match=r"data\.root \(.*\) lacks x\.bin \(sha256 "):
        _obtain(tmp_path, file, root=root)
    (root / "x.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"\(sha256 .*\) must have the sha256 .*; fetch it again"):
        _obtain(tmp_path, file, root=root)
    (root / "x.bin").write_bytes(CONTENT)
    assert _obtain(tmp_path, file, root=root) == {"x.bin": root / "x.bin"}
    assert server.asked == []


def test_gzip_files_may_be_verified_by_what_they_hold(tmp_path):
    file = RemoteFile("x.gz", (), Checksum("sha256", hashlib.sha256(CONTENT).hexdigest(), unpacked=True))
    for packed in (gzip.compress(CONTENT, mtime=0), gzip.compress(CONTENT, compresslevel=1, mtime=12345)):
        (tmp_path / "x.gz").write_bytes(packed)
        assert _obtain(tmp_path, file, root=tmp_path)
    for packed in (b"<html>captive portal</html>", gzip.compress(CONTENT)[:60], gzip.compress(b"other")):
        (tmp_path / "x.gz").write_bytes(packed)
        with pytest.raises(UserError, match=r"x\.gz"):
            _obtain(tmp_path, file, root=tmp_path)


@pytest.mark.parametrize(
    "answer", [b"no http\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
def test_a_server_that_breaks_the_protocol_is_a_source_error(tmp_path, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SourceError):
            http_download(f"http://127.0.0.1:{listener.getsockname()[1]}/x", tmp_path / "x", None, 5)
        thread.join()
