"""Whole files of every kind that a stage reads, each with the function that reads it."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from latentline.core.files import write_sealed_json
from latentline.core.labels import LabelTable, build_schema
from latentline.core.load_params import read_params, validate
from latentline.data.captions import read_captions, write_captions
from latentline.data.decode import UnreadableError
from latentline.data.samples import read_prompts, read_samples, write_samples
from latentline.data.store import read_card, read_split
from latentline.interop.diffusers_folder import read_diffusers_folder, write_diffusers_folder
from latentline.latents.cache import LatentSplit, read_labels, read_latents, read_stats, write_cache
from latentline.latents.caption_states import CaptionStates, write_states
from latentline.latents.pretrained_text import EncoderInfo
from latentline.latents.tokens import read_tokenizer, read_tokens, write_tokens
from latentline.runtime.checkpoint import load_checkpoint, save_checkpoint
from latentline.runtime.packaged_weights import read_weights_file
from stages.download import archives
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
from stages.download.params import DataParams
from stages.download.prepare import prepare
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.array import read_array
from stages.download.sources.caption_files import find_caption_files
from stages.download.sources.folder_files import list_folder
from stages.download.sources.idx import read_idx
from stages.download.sources.table import read_table
from support.source_files import PREPARE_OPTIONS

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


def _samples(folder: Path, name: str) -> Reader:
    root, labels = folder / "generated", LabelTable(SCHEMA, torch.tensor([[0.0], [1.0]]))
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    write_samples(root, [images], labels, "ab" * 32, prompts=["a red square", "\u732b"])
    return Reader(root / name, lambda: (read_samples(root, "ab" * 32), read_prompts(root)), ours=True)


def store_reader(folder: Path, name: str) -> Reader:
    images = np.arange(20 * 9, dtype=np.uint8).reshape(20, 1, 3, 3)
    prepare(
        Source(Card("x", ("a", "b"), "", "", ""), {"train": SourceSplit(ArrayImages(images), np.arange(20) % 2)}),
        folder / "store",
        PREPARE_OPTIONS,
    )
    return Reader(
        folder / "store" / name, lambda: (read_card(folder / "store"), read_split(folder / "store", "train")), ours=True
    )


def _captions(folder: Path) -> Reader:
    """The captions of a prepared split, in two scripts."""
    root, texts = folder / "store", ["a red square", "", "\u732b \U0001f408"]
    root.mkdir()
    splits = {"train": {"count": len(texts), "shards": {}}}
    card = {"schema": [], "shape": [1, 2, 2], "horizontal_flip": False, "splits": splits}
    write_sealed_json(root / "card.json", {**card, "captions": {"train": write_captions(root, "train", texts)}})
    return Reader(root / "captions-train.jsonl", lambda: read_captions(root, "train"), ours=True)


def _metadata(folder: Path) -> Reader:
    """The user's captions of a folder of images."""
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").touch()
    return _written(
        folder / "pictures" / "metadata.jsonl",
        b'{"file_name": "a.png", "text": "a cat"}\n',
        lambda path: find_caption_files(path.parent, list_folder(path.parent, folder / "none")),
    )


def cache_reader(folder: Path, name: str) -> Reader:
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


def _text(folder: Path, name: str) -> Reader:
    root = folder / "cache"
    tokenizer = write_tokens(root, {split: ["a red square", ""] for split in ("train", "val", "test")}, 260, 3)
    assert tokenizer is not None
    read_text = root / "encoded_img" / "text" / name
    return Reader(read_text, lambda: (read_tokenizer(root), read_tokens("train", tokenizer, root)), ours=True)


def _states(folder: Path, name: str) -> Reader:
    root, info, tokens = folder / "cache", EncoderInfo("clip", "ab" * 32, 4), torch.tensor([[1, 2], [3, 0]])
    (text := root / "encoded_img" / "text").mkdir(parents=True)
    write_states(text, info, tokens.int(), [torch.ones(3, 4, dtype=torch.float16)])
    return Reader(text / name, lambda: CaptionStates(info, root, torch.device("cpu"))(tokens), ours=True)


def _diffusers(folder: Path, name: str) -> Reader:
    write_diffusers_folder(folder / "model", {"in_channels": 3}, {"w": torch.zeros(3)})
    return Reader(folder / "model" / name, lambda: read_diffusers_folder(folder / "model"), ours=False)


def tar_of(names: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def png() -> bytes:
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


IMAGES, LABELS = np.arange(48, dtype=np.uint8).reshape(3, 4, 4), np.arange(3)
TABLE = "file,label,split,size\n" + "".join(
    f"{row}.png,{'ab'[row % 2]},{'train' if row else 'test'},{row / 2}\n" for row in range(6)
)
IDX = struct.pack(">4i", 2051, 3, 4, 4) + IMAGES.tobytes()


def _read_table(path: Path) -> None:
    """Read a CSV of labels beside the files that it names when it is whole."""
    for row in TABLE.splitlines()[1:]:
        (path.parent / row.split(",")[0]).touch()
    params = DataParams(name="image_folder", path=str(path.parent), labels=str(path))
    read_table(replace(SourceOptions.of(params, path.parent / "scratch"), max_unreadable=0.99))


READERS: dict[str, Callable[[Path, Path], Reader]] = {
    "checkpoint": lambda folder, root: _checkpoint(folder),
    "samples": lambda folder, root: _samples(folder, "samples-00000.safetensors"),
    "prompts of samples": lambda folder, root: _samples(folder, "prompts.json"),
    "prepared shard": lambda folder, root: store_reader(folder, "train-00000.safetensors"),
    "card": lambda folder, root: store_reader(folder, "card.json"),
    "captions": lambda folder, root: _captions(folder),
    "metadata of images": lambda folder, root: _metadata(folder),
    "latent shard": lambda folder, root: cache_reader(folder, "latents/train-00000.safetensors"),
    "latent statistics": lambda folder, root: cache_reader(folder, "stats.json"),
    "labels of latents": lambda folder, root: cache_reader(folder, "labels.safetensors"),
    "tokens": lambda folder, root: _text(folder, "tokens-train.safetensors"),
    "tokenizer": lambda folder, root: _text(folder, "tokenizer.json"),
    "captions with states": lambda folder, root: _states(folder, "captions.safetensors"),
    "states of captions": lambda folder, root: _states(folder, "states-00000.safetensors"),
    "diffusers config": lambda folder, root: _diffusers(folder, "config.json"),
    "diffusers weights": lambda folder, root: _diffusers(folder, "diffusion_pytorch_model.safetensors"),
    "published weights": lambda folder, root: _written(
        folder / "x.safetensors", save({"w": torch.zeros(3)}), read_weights_file
    ),
    "published weights of torch": lambda folder, root: _written(folder / "x.pt", torch_file(), read_weights_file),
    "tar of images": lambda folder, root: _written(
        folder / "x.tar", tar_of({"a.png": png(), "ä" * 120: png()}), _read_tar_images
    ),
    "tar of tables": lambda folder, root: _written(
        folder / "x.tar",
        tar_of(MEMBERS, tarfile.GNU_FORMAT),
        lambda path: [read_span(path, span) for span in tar_spans(path).values()],
    ),
    "gzipped tar": lambda folder, root: _written(
        folder / "x.tar.gz", gzip.compress(tar_of(MEMBERS)), lambda path: read_tar_gz(path, ["a.bin", "b.bin"], 1000)
    ),
    "zip of images": lambda folder, root: _written(
        folder / "x.zip", zip_of({"a.png": png(), "b.png": png()}), _read_zip_images
    ),
    "zip of tables": lambda folder, root: _written(folder / "x.zip", zip_of(MEMBERS), _read_zip_members),
    "gzip": lambda folder, root: _written(
        folder / "x.gz", gzip.compress(bytes(500)), lambda path: gunzip(path, folder / "out", 1000)
    ),
    "idx": lambda folder, root: _written(folder / "x.gz", gzip.compress(IDX), lambda path: read_idx(path, 3, folder)),
    "npz": lambda folder, root: _array(folder, "x.npz", _packed(np.savez_compressed, images=IMAGES, labels=LABELS)),
    "npy": lambda folder, root: _array(folder, "x.npy", _packed(np.save, images=IMAGES)),
    "safetensors": lambda folder, root: _array(
        folder, "x.safetensors", save({"images": torch.from_numpy(IMAGES), "labels": torch.from_numpy(LABELS)})
    ),
    "table of labels": lambda folder, root: _written(folder / "x.csv", TABLE.encode(), _read_table),
    "params": lambda folder, root: _written(
        folder / "params.yaml", (root / "params.yaml").read_bytes(), lambda path: validate(read_params(path), path)
    ),
}
