"""Hostile and damaged archives are refused; no file is unpacked under a name from an archive."""

import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from latentline.core.errors import UserError
from latentline.data.decode import UnreadableError
from stages.download import archives
from stages.download.archives import (
    FileImages,
    TarImages,
    ZipImages,
    gunzip,
    open_zip,
    read_span,
    read_tar_gz,
    tar_spans,
    zip_member,
)
from support.source_files import encoded, flat, tar_bytes, write_tar, write_zip

REFUSED = r"member '.*' must be a plain file inside the archive; fetch .* again"
HOSTILE_NAMES = ["/etc/passwd", "../outside", "a/../../outside"]


def _special(kind: bytes) -> bytes:
    member = tarfile.TarInfo("a/link")
    member.type = kind
    member.linkname = "/etc/passwd"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(tar_bytes({name: b"x"}) for name in HOSTILE_NAMES),
        *(_special(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)),
    ],
)
def test_a_tar_with_links_devices_or_names_that_reach_outside_is_refused(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=REFUSED):
        tar_spans(tmp_path / "x.tar")
    with pytest.raises(UserError, match=REFUSED):
        read_tar_gz(tmp_path / "x.tar.gz", ["wanted"], 100)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_zip_with_names_that_reach_outside_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=REFUSED):
        open_zip(write_zip(tmp_path / "x.zip", {name: b"x"}))


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=REFUSED):
        open_zip(tmp_path / "x.zip")


def test_members_are_read_in_place_tars_in_tars_too(tmp_path):
    inner = tar_bytes({"b.bin": b"inside", "c.bin": b"more"})
    path = write_tar(tmp_path / "x.tar", {"./a.bin": b"first", "inner.tar": inner})
    spans = tar_spans(path)
    assert read_span(path, spans["a.bin"]) == b"first"
    inside = tar_spans(path, spans["inner.tar"])
    assert {name: read_span(path, span) for name, span in inside.items()} == {"b.bin": b"inside", "c.bin": b"more"}


def test_images_of_every_container_are_the_same(tmp_path):
    files = {f"{level}.png": encoded(flat(level)) for level in range(3)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tar = write_tar(tmp_path / "x.tar", files)
    spans = tar_spans(tar)
    kinds = [
        FileImages(list(files), tmp_path),
        TarImages(list(spans), tar, list(spans.values())),
        ZipImages(list(files), write_zip(tmp_path / "x.zip", files)),
    ]
    for images in kinds:
        assert len(images) == 3
        assert images.name(1) == "1.png"
        assert images.info(1) == kinds[0].info(1)
        assert images.pixels(2, (3, 4, 4)).max() == 2


def test_an_image_of_absurd_size_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_IMAGE", 10)
    files = {"0.png": bytes(11)}
    (tmp_path / "0.png").write_bytes(bytes(11))
    tar = write_tar(tmp_path / "x.tar", files)
    for images in (
        FileImages(["0.png"], tmp_path),
        TarImages(["0.png"], tar, list(tar_spans(tar).values())),
        ZipImages(["0.png"], write_zip(tmp_path / "x.zip", files)),
    ):
        with pytest.raises(UnreadableError, match="11 bytes, expected at most 10"):
            images.info(0)


def test_a_damaged_image_in_a_zip_is_unreadable(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"0.png": bytes(range(256)) * 4})
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableError):
        ZipImages(["0.png"], path).info(0)


def test_members_larger_than_they_should_be_are_refused(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tar_bytes({"big": bytes(1000)})))
    with pytest.raises(UserError, match=r"big \(1000 bytes\) must be at most 999 bytes"):
        read_tar_gz(tmp_path / "x.tar.gz", ["big"], 999)
    with (
        open_zip(write_zip(tmp_path / "x.zip", {"big": bytes(1000)})) as archive,
        pytest.raises(UserError, match=r"big \(1000 bytes\) must be at most 999 bytes"),
    ):
        zip_member(archive, "big", 999)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(5 << 20)))
    with pytest.raises(UserError, match=r"x\.gz \(over 1000 bytes unpacked\) must be"):
        gunzip(tmp_path / "x.gz", tmp_path / "x", 1000)
    assert (tmp_path / "x").stat().st_size <= 1000


def test_missing_members_and_damaged_archives_are_refused(tmp_path):
    good = tar_bytes({"a": bytes(5000)})
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(good))
    with pytest.raises(UserError, match="must contain b; fetch it again"):
        read_tar_gz(tmp_path / "x.tar.gz", ["a", "b"], 9999)
    for content in (b"", b"not an archive" * 100, gzip.compress(good)[:50], gzip.compress(good[:2000])):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(UserError, match="bad"):
            read_tar_gz(tmp_path / "bad", ["a"], 9999)
        with pytest.raises(UserError, match="bad"):
            open_zip(tmp_path / "bad")
    for content in (b"no gzip", gzip.compress(bytes(3000))[:-9], b"\x1f\x8b\x08\0\0\0\0\0\0\xffgarbage"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(UserError, match="must be a gzip file; fetch it again"):
            gunzip(tmp_path / "bad", tmp_path / "y", 9999)
    with (
        open_zip(write_zip(tmp_path / "y.zip", {"a": b"x"})) as archive,
        pytest.raises(UserError, match="must contain b; fetch it again"),
    ):
        zip_member(archive, "b", 9)


def _header(kind: bytes, size: bytes, name: bytes = b"x") -> bytes:
    """One block of a tar (POSIX.1-1988, ustar), its size field as given."""
    block = bytearray(tarfile.BLOCKSIZE)
    block[: len(name)], block[100:107], block[124:136], block[156:157], block[257:263] = (
        name,
        b"0000644",
        size,
        kind,
        b"ustar\0",
    )
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "content",
    [
        _header(tarfile.XHDTYPE, b"77777777777\0")
        + bytes(1024),  # 8 GiB of extended header, which would be read into memory
        _header(tarfile.XGLTYPE, b"77777777777\0") + bytes(1024),
        _header(tarfile.GNUTYPE_LONGNAME, b"77777777777\0") + bytes(1024),
        _header(tarfile.REGTYPE, b"\xff" * 11 + b"\0")
        + bytes(1024),  # minus 256 bytes: this header would be read forever
        _header(tarfile.REGTYPE, b"77777777777\0") + bytes(1024),  # promises 8 GiB and ends
        _header(tarfile.XHDTYPE, b"00000000015\0")
        + b"13 size=-512\n".ljust(512, b"\0")
        + _header(tarfile.REGTYPE, b"00000000000\0")
        + bytes(1024),
        _header(tarfile.GNUTYPE_SPARSE, b"00000000000\0") + bytes(1024),
        _header(b"V", b"00000000000\0") + bytes(1024),  # a volume's label
        tar_bytes({"a": b"x"})[:1024] + b"damaged header".ljust(512) + tar_bytes({"b": b"x"}),
    ],
)
def test_a_tar_with_sizes_or_headers_that_cannot_be_is_refused_at_once(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=r"x\.tar( \(|: ).* must be .*fetch"):
        tar_spans(tmp_path / "x.tar")
    with pytest.raises(UserError, match=r"x\.tar\.gz( \(|: ).* must be .*fetch"):
        read_tar_gz(tmp_path / "x.tar.gz", ["a"], 100)


def test_a_zip_whose_member_is_packed_encrypted_or_longer_than_its_header_is_refused(tmp_path):
    content = write_zip(tmp_path / "x.zip", {"a": bytes(1000)}).read_bytes()
    central = content.index(b"PK\x01\x02")
    for place, change in ((8, b"\x01"), (8, b"\x20"), (10, b"\x63"), (24, b"\x05\0\0\0"), (42, b"\xff\xff\xff\x7f")):
        damaged = bytearray(content)
        damaged[central + place : central + place + len(change)] = change
        if place < 12:
            damaged[place - 2 : place - 2 + len(change)] = change  # the same in the local header
        path = tmp_path / f"{place}{change.hex()}.zip"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"must be .*; fetch .* again"), open_zip(path) as archive:
            zip_member(archive, "a", 2000)


def test_an_image_that_is_a_pipe_or_a_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to("/dev/zero")
    (tmp_path / "2.png").mkdir()
    (tmp_path / "3.png").symlink_to("3.png")
    images = FileImages([f"{row}.png" for row in range(4)], tmp_path)
    for row in range(4):
        with pytest.raises(UnreadableError):
            images.info(row)
