"""Open the run of the current folder in a browser: ``make explore``."""

import logging
import os
import signal
import socket
import sys
import tempfile
import webbrowser
from pathlib import Path

from latentline.core.errors import UserError

_HOST, _PORT = "127.0.0.1", 7860


def main() -> int:
    """Serve the page until Ctrl-C, and return the exit status. HOST and PORT come from the environment."""
    logging.basicConfig(level=logging.INFO, format="explore: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as Ctrl-C: the temporary folder is removed
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        host, port = os.environ.get("HOST") or _HOST, _port(os.environ.get("PORT") or str(_PORT))
        listening = _listen(host, port)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        try:
            import gradio  # noqa: F401
        except ImportError:
            raise UserError("gradio is missing; run `make explore`, which installs it") from None
        with tempfile.TemporaryDirectory(prefix="latentline-explore-") as folder:
            _serve(host, listening, Path(folder))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _serve(host: str, listening: socket.socket, folder: Path) -> None:
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    import uvicorn

    from latentline.core.load_params import parse_params
    from latentline.explorer.app import application, build
    from latentline.explorer.session import open_session
    from latentline.runtime.compute import set_up

    path = Path("params.yaml")
    compute = (parse_params(path.read_text()).get("compute") if path.exists() else None) or {}
    session = open_session(set_up(compute.get("device", "auto"), compute.get("threads", 2)))
    (folder / "outputs").mkdir()
    app = application(build(session, folder / "outputs"), host)
    address = f"http://{host}:{listening.getsockname()[1]}/"
    print(f"The explorer is at {address} until you press Ctrl-C.", file=sys.stderr, flush=True)
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UserError where the address or the port is not to be had."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"HOST and PORT ({host}:{port}: {reason}) must be a free address of this machine; "
            "take another port: make explore PORT=7861"
        ) from None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise UserError(f"PORT ({text}) must be an integer from 1 to 65535, or 0 for any; correct it")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
