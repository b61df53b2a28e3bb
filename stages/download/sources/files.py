"""The publisher's files of a data set, or an error that lists the files to fetch by hand."""

from pathlib import Path

from latentline.core.errors import UserError
from stages.download.fetch import RemoteFile, SourceError, obtain
from stages.download.source import SourceOptions


def publisher_files(options: SourceOptions, title: str, files: list[RemoteFile], page: str) -> dict[str, Path]:
    """Return the verified files by name. Raises UserError when one is unavailable.

    Args:
        options: of the source.
        title: name of the data set for people.
        files: all needed files.
        page: where people can fetch them.
    """
    try:
        return obtain(
            files,
            root=options.root,
            downloads=options.downloads / options.name,
            timeout_seconds=options.timeout_seconds,
        )
    except SourceError as error:
        raise unavailable(title, files, page, error) from None


def unavailable(title: str, files: list[RemoteFile], page: str, error: SourceError) -> UserError:
    """Return the error that lists the files to fetch by hand."""
    return UserError(
        f"{title} ({error}) must be available as {', '.join(str(file) for file in files)}; connect to the network, "
        f"or fetch them by hand ({page}) into a folder and set data.root to it, "
        "or set data.name to digits, which needs no network"
    )
