import gzip
import hashlib
import socket

import pytest

from latentline.data import fetch
from latentline.data.fetch import SourceError, first_that_works, gunzip_verified, http_get

SECONDS = 0.3  # how long these tests wait for a silent server


def test_what_a_server_sends_is_received_whole(mirror):
    content = bytes(range(256)) * 5000
    mirror.files["x"] = content
    assert http_get(mirror.address + "x", 10) == content


def test_a_missing_file_is_a_source_error_with_address_and_status(mirror):
    with pytest.raises(SourceError, match=r"/absent.*404"):
        http_get(mirror.address + "absent", 10)


@pytest.mark.parametrize("path", ["silent", "stalls"])
def test_a_server_that_falls_silent_is_given_up(mirror, path):
    with pytest.raises(SourceError, match="timed out"):
        http_get(mirror.address + path, SECONDS)
    assert not mirror.released.is_set()  # the server was still silent when we left


def test_a_server_that_trickles_is_given_up(mirror, monkeypatch):
    monkeypatch.setattr(fetch, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "_SLOWEST", 1e15)
    mirror.files["x"] = b"slow"
    with pytest.raises(SourceError, match="only 4 bytes"):
        http_get(mirror.address + "x", 10)


def test_a_server_that_sends_without_end_is_given_up(mirror, monkeypatch):
    monkeypatch.setattr(fetch, "_LARGEST", 10)
    mirror.files["x"] = bytes(100)
    with pytest.raises(SourceError, match="more than 10 bytes"):
        http_get(mirror.address + "x", 10)


def test_nobody_listening_is_a_source_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match=str(port)):
        http_get(f"http://127.0.0.1:{port}/x", 10)


def test_gzip_content_is_verified_by_the_sha256_of_what_it_holds():
    content = b"content" * 100
    digest = hashlib.sha256(content).hexdigest()
    for compressed in (gzip.compress(content, mtime=0), gzip.compress(content, compresslevel=1, mtime=12345)):
        assert gunzip_verified(compressed, digest, "x") == content


def test_other_content_is_refused_with_both_digests():
    expected = hashlib.sha256(b"expected").hexdigest()
    with pytest.raises(SourceError) as caught:
        gunzip_verified(gzip.compress(b"other"), expected, "the-source")
    assert "the-source" in str(caught.value)
    assert expected in str(caught.value)
    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)


def test_what_is_no_whole_gzip_file_is_refused():
    compressed = gzip.compress(bytes(range(256)))
    digest = hashlib.sha256(bytes(range(256))).hexdigest()
    for damaged in (b"<html>captive portal</html>", *(compressed[:length] for length in range(0, len(compressed), 7))):
        with pytest.raises(SourceError, match="the-source"):
            gunzip_verified(damaged, digest, "the-source")


def test_the_first_source_that_works_is_used_and_later_ones_are_left_alone():
    asked = []

    def attempt(name: str, works: bool):
        def run() -> dict[str, bytes]:
            asked.append(name)
            if not works:
                raise SourceError("down")
            return {name: b""}

        return name, run

    assert first_that_works([attempt("a", False), attempt("b", True), attempt("c", True)]) == ("b", {"b": b""})
    assert asked == ["a", "b"]


def test_when_every_source_fails_the_message_says_how_each_did():
    def fail(reason: str):
        def run() -> dict[str, bytes]:
            raise SourceError(reason)

        return run

    with pytest.raises(SourceError) as caught:
        first_that_works([("first", fail("no route")), ("second", fail("404"))])
    assert str(caught.value) == "first: no route; second: 404"


def test_a_bug_in_an_attempt_is_not_taken_for_a_failing_source():
    with pytest.raises(ZeroDivisionError):
        first_that_works([("buggy", lambda: {"x": bytes(1 // 0)}), ("works", dict)])
