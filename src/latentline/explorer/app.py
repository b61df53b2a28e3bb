"""The page: a heading, the tabs that the run can serve, and a server that sends nothing elsewhere."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr

from latentline.core.paths import PREPARED
from latentline.explorer.repair import can_repair
from latentline.explorer.session import Session
from latentline.explorer.start_images import MAX_BYTES
from latentline.explorer.tabs import compare, edit, interpolate, map, repair, sample
from latentline.explorer.tabs.common import Outbox

_USERS = 2  # actions of one kind at a time
_WAITING = 32
_LOOPBACK = ("127.0.0.1", "localhost")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "form-action 'self'; base-uri 'self'"
)


def build(session: Session, outputs: Path) -> Any:
    """Return the page.

    Args:
        session: the run.
        outputs: existing folder for files to download.
    """
    outbox, notes = Outbox(outputs), list(session.notes)
    has_images = session.test is not None or session.has_denoiser
    with gr.Blocks(title="Latentline explorer", analytics_enabled=False) as page:
        gr.Markdown(f"# Latentline explorer\n\n{_about(session)}", elem_id="about")
        first = None
        with gr.Tabs():
            if session.has_denoiser:
                with gr.Tab("Sample"):
                    first = sample.build(session, outbox)
            if has_images:
                with gr.Tab("Edit") as tab:
                    action = edit.build(session)
                tab.select(*action, api_visibility="private")
                with gr.Tab("Interpolate"):
                    interpolate.build(session, outbox)
                with gr.Tab("Map") as tab:
                    action = map.build(session)
                tab.select(*action, api_visibility="private")
            else:
                notes.append(
                    f"No Edit, Interpolate, Map: they start from images. Run `dvc repro download` for {PREPARED}."
                )
            if can_repair(session):
                with gr.Tab("Repair") as tab:
                    action = repair.build(session)
                tab.select(*action, api_visibility="private")
            elif session.has_denoiser:
                notes.append("No Repair: each number of this run's latents covers the whole image.")
            if (Path("params.yaml").exists() and Path("metrics").exists()) or not has_images:
                with gr.Tab("Compare"):
                    compare.build(session)
        if notes:
            gr.Markdown("\n\n".join(notes), elem_id="notes")
        if first is not None:
            page.load(*first, api_visibility="private")
    return page


def application(page: Any, host: str) -> Any:
    """Return the page as an ASGI application, which asks no other server for anything.

    Args:
        page: from :func:`build`.
        host: address to listen on. On this machine alone, other names of the server are refused: a page of another
            site could else reach it under a name of its own (DNS rebinding).
    """
    from fastapi import FastAPI
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(openapi_url=None)
    app.add_middleware(_OwnOnly)
    if host in _LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK])
    page.queue(default_concurrency_limit=_USERS, max_size=_WAITING)
    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    )
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=MAX_BYTES,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=files("latentline.explorer").joinpath("page.css").read_text(),
    )


class _OwnOnly:
    """Middleware: a policy by which browsers ask no other server for anything."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self._app(scope, receive, with_policy if scope["type"] == "http" else send)


def _about(session: Session) -> str:
    channels, height, width = session.model.image_shape
    parts = [
        str(session.setting("data.name", "images")),
        f"{height}x{width}" + (" in colour" if channels == 3 else ""),
        f"autoencoder {session.setting('autoencoder.name', '')}",
        f"denoiser {session.setting('denoiser.name', '')}" if session.has_denoiser else "",
    ]
    return " · ".join(part for part in parts if part)
