"""What the tabs share: errors as one line, pictures, and the choice of an image to start from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from latentline.core.errors import UserError
from latentline.core.labels import class_names
from latentline.explorer.session import Session
from latentline.explorer.start_images import StartImage, from_file, from_sample, from_test

log = logging.getLogger(__name__)
TEST, SAMPLE, FILE = "Test image", "Sample", "Your file"
IN_TURN = "all in turn"
_KEPT = 40  # folders of results


def friendly(action: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``action`` with its errors as one line on the page."""

    @wraps(action)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except UserError as error:
            raise gr.Error(str(error), duration=12, print_exception=False, title="That did not work") from None
        except gr.Error:
            raise
        except Exception as error:
            log.exception("the explorer failed")
            text = f"{type(error).__name__}: the terminal has the details"
            raise gr.Error(text, print_exception=False, title="That did not work") from None

    return wrapped


def picture(caption: str, **options: Any) -> Any:
    """Return a component that shows a picture as sharp pixels, below its caption."""
    hint(caption)
    fixed = {"interactive": False, "show_label": False, "elem_classes": ["picture"]}
    return gr.Image(label=caption, **{"format": "png", "buttons": ["download", "fullscreen"], **fixed, **options})


def hint(text: str) -> Any:
    """Add a quiet line of text, and return it."""
    return gr.Markdown(text, elem_classes=["hint"])


def classes_of(session: Session) -> list[str]:
    """Return the classes that the denoiser is conditioned on."""
    if not session.has_denoiser:
        return []
    return list(class_names(session.model.denoiser.conditioning.attributes))


def whole(value: Any, name: str) -> int:
    """Return the integer of a number field. Raises UserError where it is empty or no integer."""
    if value is None or value != int(value):
        raise UserError(f"{name} ({value}) must be an integer; correct it")
    return int(value)


class Outbox:
    """Folder for files to download; old ones are removed.

    Args:
        root: of the folders; exists.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: list[Path] = []
        self._number = 0

    def folder(self) -> Path:
        """Return a new folder."""
        self._number += 1
        new = self._root / f"{self._number:06}"
        new.mkdir()
        self._folders.append(new)
        for old in self._folders[:-_KEPT]:
            for path in old.iterdir():
                path.unlink(missing_ok=True)
            old.rmdir()
        self._folders = self._folders[-_KEPT:]
        return new


@dataclass(frozen=True)
class ImagePicker:
    """Controls for an image to start from: a test image, a sample or a file."""

    session: Session
    inputs: list[Any]
    """Components; their values are the arguments of :meth:`pick`."""

    @classmethod
    def build(cls, session: Session, title: str, number: int) -> "ImagePicker":
        """Add the controls; ``number`` is the image that they begin with."""
        kinds = [TEST] * (session.test is not None) + [SAMPLE] * session.has_denoiser + [FILE]
        kind = gr.Radio(kinds, value=kinds[0], label=title)
        index = gr.Number(number, label="Which one", precision=0, minimum=0, visible=kinds[0] != FILE)
        file = gr.File(
            label="Any picture; it is cropped and resized", type="binary", visible=kinds[0] == FILE, height=120
        )
        kind.change(
            lambda chosen: (gr.update(visible=chosen != FILE), gr.update(visible=chosen == FILE)),
            kind,
            [index, file],
            api_visibility="private",
            show_progress="hidden",
        )
        return cls(session, [kind, index, file])

    @property
    def events(self) -> list[Any]:
        """Events of another image: a number that is entered, or a file."""
        _, index, file = self.inputs
        return [index.submit, file.upload]

    def pick(self, kind: str, index: Any, content: bytes | None) -> StartImage:
        """Return the chosen image."""
        if kind == FILE:
            if not content:
                raise UserError("file (none) must be chosen; drop a picture into the box")
            return from_file(self.session, content)
        chosen = whole(index, "image")
        return from_test(self.session, chosen) if kind == TEST else from_sample(self.session, chosen)
