"""Every file that a stage reads, damaged in every way, ends in one line that names the file and the remedy.

Our own files store a sha256 of their content, so that any damage is noticed. In files of other programs a flipped bit of
a pixel or of a label gives another valid pixel or label, unless their format or their publisher has a checksum.
"""

import gzip
import io
import json
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import write_json
from latentline.core.labels import LabelTable, build_schema
from latentline.core.load_params import read_params, validate
from latentline.core.shards import ShardedArray
from latentline.data.decode import UnreadableError
from latentline.data.store import read_card, read_split
from latentline.interop.diffusers_folder import read_diffusers_folder, write_diffusers_folder
from latentline.latents.cache import LatentSplit, read_labels, read_latents, read_stats, write_cache
from latentline.runtime.checkpoint import load_checkpoint, save_checkpoint
from stages.download.archives import (
    TarImages,
    ZipImages,
    gunzip,
    open_zip,
    read_span,
    read_tar_gz,
    tar_spans,
    zip_member,
)
from stages.download.images import ArrayImages
from stages.download.prepare import Options, prepare
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.array import read_array
from stages.download.sources.idx import read_idx
from stages.download.sources.table import read_table

OPTIONS = Options(
    image_size=None,
    channels=None,
    shares={"val": 0.2, "test": 0.2},
    limit=None,
    max_unreadable=0.0,
    horizontal_flip=False,
    seed=0,
    workers=0,
)
SCHEMA = build_schema(("a", "b"), ())
MEMBERS = {"./a.bin": b"first" * 20, "b.bin": bytes(range(256))}


@dataclass(frozen=True)
class Reader:
    """A whole file, and the function that reads it."""

    path: Path
    read: Callable[[], object]
    ours: bool  # sealed with a sha256


def _checkpoint(folder: Path) -> Reader:
    path = folder / "x.safetensors"
    network = torch.nn.Linear(3, 2)
    tensors = {
        **network.state_dict(),
        "half": torch.ones(2, dtype=torch.float16),
        "none": torch.empty(0, 2),
        "flag": torch.tensor(True),
    }
    save_checkpoint(
        path,
        kind="denoiser",
        name="linear",
        constructor={"in_features": 3},
        trained_on={"latents": "ab" * 32},
        tensors=tensors,
    )
    return Reader(path, lambda: load_checkpoint(path, kind="denoiser", made_by="train_denoiser"), ours=True)


def _samples(folder: Path) -> Reader:
    path = folder / "samples.safetensors"
    save_arrays(
        path,
        {"images": torch.zeros(2, 1, 3, 3, dtype=torch.uint8), "labels": torch.tensor([0, 1])},
        {"kind": "samples"},
    )
    return Reader(path, lambda: load_arrays(path, "sample", kind="samples"), ours=True)


def _store(folder: Path, name: str) -> Reader:
    images = np.arange(20 * 9, dtype=np.uint8).reshape(20, 1, 3, 3)
    prepare(
        Source(Card("x", ("a", "b"), "", "", ""), {"train": SourceSplit(ArrayImages(images), np.arange(20) % 2)}),
        folder / "store",
        OPTIONS,
    )
    return Reader(
        folder / "store" / name, lambda: (read_card(folder / "store"), read_split(folder / "store", "train")), ours=True
    )


def _cache(folder: Path, name: str) -> Reader:
    root = folder / "cache"
    splits = {
        split: [LatentSplit(torch.randn(4, 2, 3, 3).half(), LabelTable(SCHEMA, (torch.arange(4) % 2.0)[:, None]))]
        for split in ("train", "val", "test")
    }
    write_cache(root, splits, schema=SCHEMA, autoencoder="ab" * 32)
    return Reader(
        root / "encoded_img" / name,
        lambda: (read_stats(root), read_latents("train", root), read_labels(SCHEMA, root)),
        ours=True,
    )


def _diffusers(folder: Path, name: str) -> Reader:
    write_diffusers_folder(folder / "model", {"in_channels": 3}, {"w": torch.zeros(3)})
    return Reader(folder / "model" / name, lambda: read_diffusers_folder(folder / "model"), ours=False)


def _tar(names: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _zip(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def _written(path: Path, content: bytes, read: Callable[[Path], object]) -> Reader:
    path.write_bytes(content)
    return Reader(path, lambda: read(path), ours=False)


def _read_all(images: TarImages | ZipImages) -> None:
    for row in range(len(images)):
        try:
            images.info(row)
            images.pixels(row, (1, 8, 8))
        except UnreadableError as error:  # one bad image is left out and listed
            assert "\n" not in str(error)


def _read_zip_images(path: Path) -> None:
    from stages.download import archives

    archives._zip_of_this_process.cache_clear()
    with open_zip(path) as archive:
        names = archive.namelist()
    _read_all(ZipImages(names, path))


def _read_tar_images(path: Path) -> None:
    spans = tar_spans(path)
    _read_all(TarImages(list(spans), path, list(spans.values())))


def _read_zip_members(path: Path) -> None:
    with open_zip(path) as archive:
        for name in MEMBERS:
            zip_member(archive, name, 1000)


def _array(folder: Path, name: str, content: bytes) -> Reader:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    path = folder / name
    options = SourceOptions("array", path, folder / "none", None, "balanced", 28, 1.0, folder, scratch)
    return _written(path, content, lambda path: read_array(options))


def _packed(write: Callable[..., None], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    write(buffer, **arrays) if write is np.savez_compressed else write(buffer, arrays["images"])
    return buffer.getvalue()


IMAGES = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
TABLE = "file,label,split,size\n" + "".join(
    f"{row}.png,{'ab'[row % 2]},{'train' if row else 'test'},{row / 2}\n" for row in range(6)
)
IDX = struct.pack(">4i", 2051, 3, 4, 4) + IMAGES.tobytes()
READERS: dict[str, Callable[[Path, Path], Reader]] = {
    "checkpoint": lambda folder, root: _checkpoint(folder),
    "samples": lambda folder, root: _samples(folder),
    "prepared shard": lambda folder, root: _store(folder, "train-00000.safetensors"),
    "card": lambda folder, root: _store(folder, "card.json"),
    "latent shard": lambda folder, root: _cache(folder, "latents/train-00000.safetensors"),
    "latent statistics": lambda folder, root: _cache(folder, "stats.json"),
    "labels of latents": lambda folder, root: _cache(folder, "labels.safetensors"),
    "diffusers config": lambda folder, root: _diffusers(folder, "config.json"),
    "diffusers weights": lambda folder, root: _diffusers(folder, "diffusion_pytorch_model.safetensors"),
    "tar of images": lambda folder, root: _written(
        folder / "x.tar", _tar({"a.png": _png(), "ä" * 120: _png()}), _read_tar_images
    ),
    "tar of tables": lambda folder, root: _written(
        folder / "x.tar",
        _tar(MEMBERS, tarfile.GNU_FORMAT),
        lambda path: [read_span(path, span) for span in tar_spans(path).values()],
    ),
    "gzipped tar": lambda folder, root: _written(
        folder / "x.tar.gz", gzip.compress(_tar(MEMBERS)), lambda path: read_tar_gz(path, ["a.bin", "b.bin"], 1000)
    ),
    "zip of images": lambda folder, root: _written(
        folder / "x.zip", _zip({"a.png": _png(), "b.png": _png()}), _read_zip_images
    ),
    "zip of tables": lambda folder, root: _written(folder / "x.zip", _zip(MEMBERS), _read_zip_members),
    "gzip": lambda folder, root: _written(
        folder / "x.gz", gzip.compress(bytes(500)), lambda path: gunzip(path, folder / "out", 1000)
    ),
    "idx": lambda folder, root: _written(folder / "x.gz", gzip.compress(IDX), lambda path: read_idx(path, 3, folder)),
    "npz": lambda folder, root: _array(
        folder, "x.npz", _packed(np.savez_compressed, images=IMAGES, labels=np.arange(3))
    ),
    "npy": lambda folder, root: _array(folder, "x.npy", _packed(np.save, images=IMAGES)),
    "safetensors": lambda folder, root: _array(
        folder, "x.safetensors", save({"images": torch.from_numpy(IMAGES), "labels": torch.arange(3)})
    ),
    "table of labels": lambda folder, root: _written(folder / "x.csv", TABLE.encode(), read_table),
    "params": lambda folder, root: _written(
        folder / "params.yaml", (root / "params.yaml").read_bytes(), lambda path: validate(read_params(path), path)
    ),
}
# Times five kinds of random damage to each file; params.yaml takes fifty times as long to read as others.
MANY, FEW = 20, 3


def _damaged(content: bytes, count: int) -> Iterator[bytes]:
    """Yield ``content`` cut short, with flipped bits, and with bytes replaced, inserted or doubled."""
    draw = np.random.default_rng(0)
    yield from (b"", content[:-1], content[: len(content) // 2], content + b"x")
    for _ in range(count):
        place = int(draw.integers(len(content)))
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(draw.integers(8))
        yield bytes(flipped)
        for _ in range(int(draw.choice([1, 2, 8]))):
            flipped[int(draw.integers(len(content)))] = int(draw.choice([0, 255, draw.integers(256)]))
        yield bytes(flipped)
        yield content[:place]
        yield content[:place] + draw.bytes(int(draw.integers(1, 9))) + content[place:]
        yield content[:place] + content[place // 2 :]


def _foreign() -> Iterator[bytes]:
    """Yield files of other kinds, and hostile ones."""
    yield b"\x00" * 100
    yield b"plain text\n"
    yield b"[" * 100_000
    yield b'{"a":' * 100_000
    yield b'{"sha256": "x", "a": ' + b"9" * 5000 + b"}"
    yield b'{"sha256": "x", "a": NaN}'
    yield b"[]"
    yield b"null"
    yield struct.pack("<Q", 2**63) + b"{}"  # a safetensors header of absurd length
    yield struct.pack("<Q", 60) + b'{"images":{"dtype":"U8","shape":[9,9,9],"data_offsets":[0,9]}}'
    yield save({"images": torch.zeros(3, 4, 4, dtype=torch.uint8)})
    yield _png()
    yield gzip.compress(b"x" * 10_000)
    yield _zip({"a.bin": b"x"})
    yield _tar({"a.bin": b"x"})


def _content(value: Any) -> Any:
    """Return what was read as plain values, which can be compared."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, ShardedArray):
        return value.to_memory().tolist()
    if isinstance(value, tuple | list):
        return [_content(part) for part in value]
    if isinstance(value, dict):
        return {key: _content(part) for key, part in value.items()}
    if is_dataclass(value):
        return _content({**vars(value), "sha256": None})  # a checkpoint's is that of the whole file
    return value


def _read(reader: Reader, content: bytes) -> Any:
    """Return what is read of ``content``, or UserError where it is refused.

    A refusal must be one line, of params.yaml one line per setting, that names the file and the remedy.
    """
    reader.path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas' of columns of several types
            return _content(reader.read())
    except UserError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1 or reader.path.name == "params.yaml", lines
        assert all(str(reader.path.parent) in line for line in lines), lines
        assert all(re.search(r"[;,] \w", line) for line in lines), lines
        return UserError


@pytest.fixture(params=READERS)
def reader(request, tmp_path, root) -> Reader:
    return READERS[request.param](tmp_path, root)


def test_only_one_line_comes_out_of_a_damaged_file_and_damage_to_our_own_is_always_noticed(reader):
    whole = reader.path.read_bytes()
    before = _read(reader, whole)
    assert before is not UserError
    count = FEW if reader.path.name == "params.yaml" else MANY
    results = [_read(reader, damaged) for damaged in _damaged(whole, count)]
    assert results.count(UserError) > count / 2  # of five times as many
    # Equal where only the space between words changed.
    assert not reader.ours or all(content in (UserError, before) for content in results)
    assert _read(reader, whole) == before  # reading the damaged file changed nothing else


def test_a_file_of_another_kind_is_refused_in_one_line(reader):
    accepted = [content for content in _foreign() if _read(reader, content) is not UserError]
    assert len(accepted) <= (0 if reader.ours else 2)  # a zip is a zip, and an array an array


def test_a_shard_of_another_store_or_cache_is_refused(tmp_path):
    for build, name in ((_store, "train-00000.safetensors"), (_cache, "latents/train-00000.safetensors")):
        reader = build(tmp_path, name)
        tensors, meta = load_arrays(reader.path, "x")
        flipped = {key: value.flip(0) for key, value in tensors.items()}
        save_arrays(reader.path, flipped, meta)  # whole, of the right kind, but not the described one
        message = r"\(sha256 \w{12}\) must have the sha256 \w{12} that .* stores; remove it and run `dvc repro"
        with pytest.raises(UserError, match=message):
            reader.read()


def test_numbers_changed_in_a_record_are_noticed(tmp_path):
    reader = _cache(tmp_path, "stats.json")
    stats = json.loads(reader.path.read_text())
    write_json(reader.path, {**stats, "mean": [value + 1 for value in stats["mean"]]})
    with pytest.raises(UserError, match=r"stats\.json is damaged or foreign"):
        reader.read()


def test_a_file_of_the_right_form_without_our_digest_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for meta in (
        {},
        {"latentline": '{"meta": {"kind": "samples"}}'},
        {"latentline": '{"meta": {"kind": "samples"}, "sha256": "00"}'},
    ):
        save_file({"images": torch.zeros(2)}, path, meta)
        with pytest.raises(UserError, match="dvc repro sample"):
            load_arrays(path, "sample", kind="samples")
