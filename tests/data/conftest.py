import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Mirror:
    """A server on this machine: what it serves, what was asked of it, and the event that ends its silences."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    """Serves ``files``; /silent never answers, /stalls sends a few bytes of many and then no more; all else is 404."""
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            name = self.path.rsplit("/", 1)[-1]
            if name == "silent":
                state.released.wait(60)
            elif name == "stalls":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"some")
                self.wfile.flush()
                state.released.wait(60)
            elif name in state.files:
                self.send_response(200)
                self.send_header("Content-Length", str(len(state.files[name])))
                self.end_headers()
                self.wfile.write(state.files[name])
            else:
                self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{server.server_address[1]}/"
        yield state
        state.released.set()
        server.shutdown()
        thread.join()
