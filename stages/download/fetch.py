"""The publisher's files, from a folder of the user or from the first address that serves the right content."""

import gzip
import hashlib
import logging
import time
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from latentline.core.errors import UserError
from latentline.core.files import replaced_file

log = logging.getLogger(__name__)

_BLOCK = 1 << 18  # bytes
_GRACE_SECONDS = 10.0  # before a slow source is given up
_SLOWEST = 20_000.0  # bytes per second; a slower source is given up
_LARGEST = 64 << 30  # bytes; no data set is larger


class SourceError(Exception):
    """The failure of one source; the caller tries the next one. The message is the reason."""


@dataclass(frozen=True)
class Checksum:
    """The hash that a file's bytes must have."""

    algorithm: str  # of hashlib
    digest: str  # hex
    unpacked: bool = False
    """True: of the content of a gzip file, since its header differs between mirrors."""

    def __str__(self) -> str:
        return f"{self.algorithm}{' unpacked' if self.unpacked else ''} {self.digest}"


@dataclass(frozen=True)
class RemoteFile:
    """One file, by its publisher's name."""

    name: str
    urls: tuple[str, ...] = ()
    """Addresses, tried in order; none = people have to fetch it by hand."""
    checksum: Checksum | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.checksum})" if self.checksum else self.name


def md5(name: str, digest: str, *urls: str) -> RemoteFile:
    """Return a file with a published MD5 sum."""
    return RemoteFile(name, urls, Checksum("md5", digest))


def obtain(files: list[RemoteFile], *, root: Path | None, downloads: Path, timeout_seconds: float) -> dict[str, Path]:
    """Return the verified files by name.

    Args:
        files: all files of a data set.
        root: folder that holds them; None = fetch those that ``downloads`` does not hold yet.
        downloads: folder for fetched files.
        timeout_seconds: time without data after which an address is given up.

    Raises:
        SourceError: a file cannot be fetched or is not in ``root``.
        UserError: a file in ``root`` is not the publisher's.
    """
    if root is not None:
        if missing := [str(file) for file in files if not (root / file.name).is_file()]:
            raise SourceError(f"data.root ({root}) lacks {', '.join(missing)}")
        for file in files:
            try:
                verify(root / file.name, file.checksum)
            except SourceError as error:
                raise UserError(f"{error}; fetch it again, or remove the file from data.root ({root})") from None
        return {file.name: root / file.name for file in files}
    return {file.name: _downloaded(file, downloads, timeout_seconds) for file in files}


def verify(path: Path, checksum: Checksum | None) -> None:
    """Raise SourceError unless the file hashes to ``checksum``."""
    if checksum is None:
        return
    digest = hashlib.new(checksum.algorithm, usedforsecurity=False)
    try:
        with gzip.open(path, "rb") if checksum.unpacked else path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: {error}") from None
    if digest.hexdigest() != checksum.digest:
        raise SourceError(
            f"{path} ({checksum.algorithm} {digest.hexdigest()}) must have the {checksum.algorithm} {checksum.digest}"
        )


def _downloaded(file: RemoteFile, downloads: Path, timeout_seconds: float) -> Path:
    path = downloads / file.name
    if path.is_file():
        try:
            verify(path, file.checksum)
            return path
        except SourceError as error:
            log.warning("fetching again: %s", error)
    failures = [] if file.urls else [f"{file.name} has no address that a program can fetch"]
    for url in file.urls:
        try:
            http_download(url, path, file.checksum, timeout_seconds)
            log.info("%s came from %s", file.name, url)
            return path
        except SourceError as error:
            log.warning("source failed: %s", error)
            failures.append(str(error))
    raise SourceError("; ".join(failures))


def http_download(url: str, path: Path, checksum: Checksum | None, timeout_seconds: float) -> None:
    """Write the content of ``url`` to ``path``.

    Raises SourceError when the content is wrong, stops for ``timeout_seconds``, or arrives too slowly.
    """
    started = time.monotonic()
    received = 0
    try:
        with replaced_file(path) as temporary:
            with urllib.request.urlopen(url, timeout=timeout_seconds) as response, temporary.open("wb") as file:
                while block := response.read1(_BLOCK):
                    file.write(block)
                    received += len(block)
                    elapsed = time.monotonic() - started
                    if elapsed > _GRACE_SECONDS and received < _SLOWEST * elapsed:
                        raise SourceError(f"{url}: only {received} bytes in {elapsed:.0f} s")
                    if received > _LARGEST:
                        raise SourceError(f"{url}: sends more than {_LARGEST} bytes")
            try:
                verify(temporary, checksum)
            except SourceError as error:
                raise SourceError(f"{url}: {error}") from None
    except (OSError, HTTPException) as error:  # URLError, timeouts and broken connections are all OSError
        raise SourceError(f"{url}: {error}") from None
