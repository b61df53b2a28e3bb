"""The publisher's files for one request, or the one line that says which to put where."""

from pathlib import Path

from latentline.core.errors import UserError
from stages.download.fetch import RemoteFile, SourceError, obtain
from stages.download.source import Request


def publisher_files(request: Request, title: str, files: list[RemoteFile], page: str) -> dict[str, Path]:
    """File name -> verified file. Raises UserError when one is not to be had.

    Args:
        request: says where to look.
        title: the data set's name for people.
        files: all that is needed.
        page: where a person can fetch them.
    """
    try:
        return obtain(files, root=request.root, downloads=request.downloads / request.name, timeout_seconds=request.timeout_seconds)
    except SourceError as error:
        raise unavailable(title, files, page, error) from None


def unavailable(title: str, files: list[RemoteFile], page: str, error: SourceError) -> UserError:
    """The one line that says which files to put where."""
    return UserError(
        f"{title} could not be had ({error}); expected {', '.join(str(file) for file in files)}; remedy: connect to the network, "
        f"or fetch them by hand ({page}), put them into a folder and name it in data.root; or set data.name to digits, which needs no network"
    )
