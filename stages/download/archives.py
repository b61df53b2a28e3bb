"""Archives, read in place.

No file is unpacked under a name from an archive, so none can reach outside or fill the disk. Still, an archive with
absolute names, ``..``, links, devices or members of absurd size is refused, since it cannot be the publisher's.
"""

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Self

from latentline.core.errors import UserError
from latentline.data.decode import UnreadableError
from stages.download.images import EncodedImages

LARGEST_IMAGE = 256 << 20  # bytes of one encoded image
_BLOCK = 1 << 20
_LARGEST_HEADER = 1 << 20  # bytes of a tar's extended header; long names take a few hundred
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
"""Errors of zipfile for damaged, encrypted or strangely packed members."""


@dataclass(frozen=True)
class Span:
    """A range of bytes in a file."""

    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class NamedImages(EncodedImages, ABC):
    """Images with names: files, or members of an archive."""

    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Return the file's or member's name."""
        return self.names[row]

    @abstractmethod
    def content(self, row: int) -> bytes:
        """See :meth:`EncodedImages.content`."""


@dataclass(frozen=True, eq=False)
class FileImages(NamedImages):
    """One file per image, its name relative to ``root``."""

    root: Path

    def content(self, row: int) -> bytes:
        """See :meth:`EncodedImages.content`."""
        path = self.root / self.names[row]
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait, a device may never end
            raise UnreadableError("not a regular file")
        _check_image_size(status.st_size)
        return path.read_bytes()


@dataclass(frozen=True, eq=False)
class TarImages(NamedImages):
    """Images inside one uncompressed tar file."""

    path: Path
    spans: list[Span]

    def content(self, row: int) -> bytes:
        """See :meth:`EncodedImages.content`."""
        _check_image_size(self.spans[row].size)
        with self.path.open("rb") as file:
            file.seek(self.spans[row].offset)
            return file.read(self.spans[row].size)


@dataclass(frozen=True, eq=False)
class ZipImages(NamedImages):
    """Images inside one zip file."""

    path: Path

    def content(self, row: int) -> bytes:
        """See :meth:`EncodedImages.content`."""
        archive = _zip_of_this_process(self.path, os.getpid())
        info = archive.getinfo(self.names[row])
        _check_image_size(info.file_size)
        try:
            return archive.read(info)
        except ZIP_ERRORS as error:
            raise UnreadableError(f"damaged in its archive ({error})") from None


def tar_spans(path: Path, inside: Span | None = None) -> dict[str, Span]:
    """Return where each member of the uncompressed tar ``path``, or of the tar at ``inside`` of it, lies in ``path``.

    Raises:
        UserError: not a tar file, or one with links or names that reach outside.
    """
    base = inside.offset if inside else 0
    spans = {}
    with path.open("rb") as file:
        file.seek(base)
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_CheckedMember) as archive:
                for member in archive:
                    _check_member(member, path)
                    if member.isreg():
                        spans[_plain(member.name)] = Span(member.offset_data, member.size)
                _check_end(archive)
        except UserError:  # a ValueError too
            raise
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise UserError(f"{path} ({error}) must be a tar file; fetch it again") from None
    return spans


def read_span(path: Path, span: Span) -> bytes:
    """Return the bytes at ``span``, for members that are small tables."""
    with path.open("rb") as file:
        file.seek(span.offset)
        return file.read(span.size)


def read_tar_gz(path: Path, names: list[str], largest: int) -> dict[str, bytes]:
    """Return the members ``names`` of a gzipped tar, each of at most ``largest`` bytes.

    Raises:
        UserError: one is missing or too large, or the archive is damaged or hostile.
    """
    found = {}
    try:
        with tarfile.open(path, "r:gz", tarinfo=_CheckedMember) as archive:
            for member in archive:
                _check_member(member, path)
                if member.size > largest:
                    raise _too_large(path, member.name, member.size, largest)
                file = archive.extractfile(member) if _plain(member.name) in names else None
                if file:
                    found[_plain(member.name)] = file.read()
            _check_end(archive)
    except UserError:  # a ValueError too
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise UserError(f"{path} ({error}) must be a gzipped tar file; fetch it again") from None
    if missing := [name for name in names if name not in found]:
        raise lacks(path, ", ".join(missing))
    return found


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file and check its members' names. Raises UserError when it is damaged or hostile."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise UserError(f"{path} ({error}) must be a zip file; fetch it again") from None
    for info in archive.infolist():
        _check_name(info.filename, path, special=stat.S_ISLNK(info.external_attr >> 16))
    return archive


def zip_member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """Return a member of at most ``largest`` bytes. Raises UserError when it is missing, too large or damaged."""
    path = Path(str(archive.filename))
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise lacks(path, name) from None
    if info.file_size > largest:
        raise _too_large(path, name, info.file_size, largest)
    try:
        return archive.read(info)
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: {name} ({error}) must be undamaged; fetch {path.name} again") from None


def gunzip(path: Path, target: Path, largest: int) -> None:
    """Decompress ``path`` to ``target``. Raises UserError beyond ``largest`` bytes, or when it is damaged."""
    try:
        with gzip.open(path, "rb") as packed, target.open("wb") as file:
            copy_at_most(packed, file, largest, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} ({error}) must be a gzip file; fetch it again") from None


def copy_at_most(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], largest: int, path: Path) -> None:
    """Copy ``source``, the content of ``path``. Raises UserError when it has more than ``largest`` bytes."""
    copied = 0
    while block := source.read(_BLOCK):
        copied += len(block)
        if copied > largest:
            raise UserError(f"{path} (over {largest} bytes unpacked) must be at most that large; fetch it again")
        target.write(block)


def require_disk(path: Path, needed: int, folder: Path) -> None:
    """Raise UserError unless ``folder`` has ``needed`` free bytes, for the unpacked content of ``path``."""
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{path} ({needed >> 20} MiB unpacked) must fit into the {free >> 20} MiB of free disk; make room"
        )


def lacks(path: Path, what: str) -> UserError:
    """Return the error that an archive or table lacks something."""
    return UserError(f"{path} must contain {what}; fetch it again")


def _too_large(path: Path, name: str, size: int, largest: int) -> UserError:
    return UserError(f"{path}: {name} ({size} bytes) must be at most {largest} bytes; fetch {path.name} again")


@lru_cache(maxsize=2)
def _zip_of_this_process(path: Path, process: int) -> zipfile.ZipFile:
    """Open a zip file once per process, since after a fork an open file shares its position with the parent's."""
    return zipfile.ZipFile(path)


def _plain(name: str) -> str:
    return name.removeprefix("./")


class _CheckedMember(tarfile.TarInfo):
    """A member of a tar with a checked size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse one header, and refuse sizes that would fill Python's memory or make it seek backwards."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in _EXTENDED and member.size > _LARGEST_HEADER):
            raise tarfile.ReadError(f"a header with a size of {member.size} bytes")
        return member


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    """Raise UserError for all but plain files and folders.

    Links reach outside, devices never end, sparse files unpack to any size.
    """
    _check_name(
        member.name, path, special=not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0
    )


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError for a damaged header, which Python takes for the end of the archive."""
    if archive.fileobj is not None:
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE).strip(tarfile.NUL):
            raise tarfile.ReadError(f"damaged header at byte {archive.offset}")


def _check_name(name: str, path: Path, *, special: bool) -> None:
    if special or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{path}: member {name!r} must be a plain file inside the archive; fetch {path.name} again")


def _check_image_size(size: int) -> None:
    if size > LARGEST_IMAGE:
        raise UnreadableError(f"{size} bytes, expected at most {LARGEST_IMAGE}")
