"""Fixtures of the tests of sources: an HTTP server, and a folder for the publisher's files."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture
def files_root(tmp_path: Path) -> Path:
    """An empty folder for the publisher's files (``data.root``)."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


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
