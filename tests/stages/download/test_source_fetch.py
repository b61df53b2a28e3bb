"""Files from a folder, from the first address that works, or a line that says what to do; never a hang."""

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from latentline.core.errors import UserError
from stages.download import fetch
from stages.download.fetch import Checksum, RemoteFile, SourceError, http_download, obtain
from stages.download.sources import mnist
from support.source_files import idx, md5, pixels, read

SECONDS = 0.3  # how long these tests wait for a silent server
CONTENT = bytes(range(256)) * 100


class Server:
    """Serves ``files`` on this machine; /silent never answers, /stalls stops in the middle; all else is 404."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.released = threading.Event()
        self.address = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            name = self.path.rsplit("/", 1)[-1]
            if name == "silent":
                state.released.wait(60)
            elif name == "stalls" or name in state.files:
                content = state.files.get(name, b"some")
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) if name in state.files else 1000))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
                if name == "stalls":
                    state.released.wait(60)
            else:
                self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{running.server_address[1]}/"
        yield state
        state.released.set()
        running.shutdown()
        thread.join()


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


def test_when_nothing_works_each_failure_is_told(tmp_path, server):
    server.files["other.bin"] = b"other"
    with pytest.raises(SourceError) as caught:
        _obtain(tmp_path, _file(server.address + "gone", server.address + "other.bin"))
    for hint in ("404", "sha256 is", "expected"):
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
    with pytest.raises(SourceError, match=r"data\.root .* holds no x\.bin \(sha256 "):
        _obtain(tmp_path, file, root=root)
    (root / "x.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"sha256 is .*, expected .*; fetch it again"):
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


# The MNIST family.
IMAGES = np.arange(12 * 28 * 28).reshape(12, 28, 28) % 251
LABELS = np.arange(12) % 10


def _four_files(prefix: str = "", parts=("train", "t10k")) -> dict[str, bytes]:
    kinds = {"images-idx3-ubyte": IMAGES, "labels-idx1-ubyte": LABELS}
    return {f"{prefix}{part}-{kind}.gz": idx(array) for part in parts for kind, array in kinds.items()}


def _folder(tmp_path, files):
    root = tmp_path / "root"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def _assert_whole(source, *, transposed: bool = False) -> None:
    for name, split in source.splits.items():
        assert len(split.images) == 12
        assert np.array_equal(split.labels, LABELS)
        assert np.array_equal(pixels(source, name, 3)[0], IMAGES[3].T if transposed else IMAGES[3])
    assert set(source.splits) == {"train", "test"}


@pytest.fixture
def known_mnist(monkeypatch, tmp_path):
    from torchvision.datasets import MNIST

    root = _folder(tmp_path, _four_files())
    monkeypatch.setattr(MNIST, "resources", [(path.name, md5(path)) for path in sorted(root.iterdir())])
    return root


def test_mnist_is_read_from_the_publishers_four_files(tmp_path, known_mnist):
    _assert_whole(read("mnist", tmp_path, root=known_mnist))


def test_mnist_of_other_bytes_or_incomplete_is_refused_with_checksum_and_remedies(tmp_path, known_mnist):
    (known_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(LABELS[::-1]))
    with pytest.raises(UserError, match="md5 is"):
        read("mnist", tmp_path, root=known_mnist)
    (known_mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as caught:
        read("mnist", tmp_path, root=known_mnist)
    for hint in ("train-images-idx3-ubyte.gz (md5 ", "data.root", "digits", "yann.lecun.com"):
        assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def known_fashion(monkeypatch):
    files = _four_files()
    monkeypatch.setattr(mnist, "FASHION_SHA256", {name: hashlib.sha256(gzip.decompress(content)).hexdigest() for name, content in files.items()})
    return files


def test_fashion_mnist_comes_from_the_mirrors_and_where_they_fail_from_debian(tmp_path, server, known_fashion, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [server.address + "gone/x-", server.address])
    monkeypatch.setattr(mnist, "debian_files", lambda package, names, seconds: {name: known_fashion[name] for name in names})
    _assert_whole(read("fashion_mnist", tmp_path))
    server.files = known_fashion
    server.asked.clear()
    _assert_whole(read("fashion_mnist", tmp_path))
    assert len(server.asked) == 8


def test_fashion_mnist_out_of_reach_names_every_source_and_remedy(tmp_path, server, known_fashion, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [server.address])
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    with pytest.raises(UserError) as caught:
        read("fashion_mnist", tmp_path)
    for hint in (server.address, "dataset-fashion-mnist", "data.root", "t10k-labels-idx1-ubyte.gz (sha256 unpacked ", "digits"):
        assert hint in str(caught.value)
    with pytest.raises(UserError, match=r"data\.root"):
        read("fashion_mnist", tmp_path, root=tmp_path)


@pytest.mark.parametrize("split", ["balanced", "byclass", "bymerge"])
def test_emnist_is_upright_from_its_archive_and_from_its_unpacked_files(tmp_path, monkeypatch, split):
    """Cohen et al., arXiv:1702.05373, and gzip.zip's own listing: gzip/emnist-SPLIT-{train,test}-{images-idx3,labels-idx1}-ubyte.gz."""
    from torchvision.datasets import EMNIST

    from support.source_files import write_zip

    files = _four_files(f"emnist-{split}-", ("train", "test"))
    root = _folder(tmp_path, files)
    source = read("emnist", tmp_path, root=root, emnist_split=split)
    _assert_whole(source, transposed=True)
    assert len(source.card.classes) == {"balanced": 47, "byclass": 62, "bymerge": 47}[split]

    for path in root.iterdir():
        path.unlink()
    archive = write_zip(root / "gzip.zip", {f"gzip/{name}": content for name, content in files.items()})
    with pytest.raises(UserError, match="md5 is"):
        read("emnist", tmp_path, root=root, emnist_split=split)
    monkeypatch.setattr(EMNIST, "md5", md5(archive))
    _assert_whole(read("emnist", tmp_path, root=root, emnist_split=split), transposed=True)
    write_zip(root / "gzip.zip", {f"gzip/{name}": content for name, content in list(files.items())[:3]})
    monkeypatch.setattr(EMNIST, "md5", md5(root / "gzip.zip"))
    with pytest.raises(UserError, match="missing or damaged"):
        read("emnist", tmp_path, root=root, emnist_split=split)


def test_emnist_out_of_reach_names_the_archive_and_the_files_that_do_as_well(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError) as caught:
        read("emnist", tmp_path, root=tmp_path / "root")
    for hint in ("gzip.zip (md5 58c8d27c78d21e728a6bc7b3cc06412e)", "emnist-balanced-test-labels-idx1-ubyte.gz", "data.root"):
        assert hint in str(caught.value)


def _bad_idx() -> dict[str, bytes]:
    raw = gzip.decompress(idx(IMAGES))
    return {
        "short": gzip.compress(raw[:-1]),
        "long": gzip.compress(raw + b"\0"),
        "header only": gzip.compress(raw[:9]),
        "empty": gzip.compress(b""),
        "labels": idx(LABELS),
        "no images": idx(IMAGES[:0]),
        "floats": gzip.compress(b"\0\0\x0d\x03" + raw[4:]),
        "huge promise": gzip.compress(raw[:4] + b"\xff" * 12 + raw[16:]),
        "cut": idx(IMAGES)[:-40],
        "no gzip": raw,
    }


@pytest.mark.parametrize("kind", _bad_idx())
def test_a_file_that_is_not_the_idx_it_should_be_is_refused_by_name(tmp_path, kind):
    files = _four_files("emnist-balanced-", ("train", "test")) | {"emnist-balanced-test-images-idx3-ubyte.gz": _bad_idx()[kind]}
    with pytest.raises(UserError, match="emnist-balanced-test-images"):
        read("emnist", tmp_path, root=_folder(tmp_path, files))


@pytest.mark.parametrize("labels", [LABELS[:5], LABELS + 40])
def test_labels_that_do_not_fit_the_images_are_refused(tmp_path, labels):
    files = _four_files("emnist-balanced-", ("train", "test")) | {"emnist-balanced-train-labels-idx1-ubyte.gz": idx(labels)}
    with pytest.raises(UserError, match="emnist-balanced-train-labels"):
        read("emnist", tmp_path, root=_folder(tmp_path, files))


@pytest.mark.parametrize("answer", [b"no http\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"])
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
