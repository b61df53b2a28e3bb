"""Every file that a stage reads, damaged in every way, ends in one line that names the file and the remedy.

Our own files store a sha256 of their content, so that any damage is noticed. In files of other programs a flipped bit
of a pixel or of a label gives another valid pixel or label, unless their format or their publisher has a checksum.
"""

import gzip
import json
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from latentline.autoencoders.load import load_autoencoder
from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import sha256_file, write_json, write_sealed_json
from latentline.core.paths import (
    AUTOENCODER,
    DENOISER,
    FEATURE_EXTRACTOR,
    LATENT_CLASSIFIERS,
    LATENT_STATS,
    MOMENT_MAPS,
)
from latentline.core.shards import ShardedArray
from latentline.data.samples import read_samples
from latentline.denoisers.load import load_denoiser
from latentline.feature_extractors.load import load_feature_extractor
from latentline.latents.cache import read_stats
from latentline.probes.load import load_latent_classifiers
from latentline.runtime.checkpoint import save_checkpoint
from latentline.samplers.moment_file import load_moments
from support.readers import READERS, Reader, cache_reader, png, store_reader, tar_of, zip_of

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
    yield png()
    yield gzip.compress(b"x" * 10_000)
    yield zip_of({"a.bin": b"x"})
    yield tar_of({"a.bin": b"x"})


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
    for build, name in ((store_reader, "train-00000.safetensors"), (cache_reader, "latents/train-00000.safetensors")):
        reader = build(tmp_path, name)
        tensors, meta = load_arrays(reader.path, "x")
        flipped = {key: value.flip(0) for key, value in tensors.items()}
        save_arrays(reader.path, flipped, meta)  # whole, of the right kind, but not the described one
        message = r"\(sha256 \w{12}\) must have the sha256 \w{12} that .* stores; remove it and run `dvc repro"
        with pytest.raises(UserError, match=message):
            reader.read()


def test_numbers_changed_in_a_record_are_noticed(tmp_path):
    reader = cache_reader(tmp_path, "stats.json")
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


def _require_refused_as_old(read: Callable[[], object], path: Path, stage: str) -> None:
    with pytest.raises(UserError) as refused:
        read()
    message = str(refused.value)
    assert re.fullmatch(rf"{re.escape(str(path))} is of an earlier version \(.+\); run `dvc repro {stage}`", message)
    assert "\n" not in message


def test_records_of_an_earlier_version_are_refused(tmp_path):
    cases = (
        (cache_reader, "stats.json", ("shape", "schema", "autoencoder", "mean", "splits"), "encode_and_cache_latents"),
        (store_reader, "card.json", ("shape", "schema", "horizontal_flip", "splits"), "download"),
    )
    for build, name, entries, stage in cases:
        reader = build(tmp_path, name)
        whole = json.loads(reader.path.read_text())
        del whole["sha256"]
        for entry in entries:
            write_sealed_json(reader.path, {key: value for key, value in whole.items() if key != entry})
            _require_refused_as_old(reader.read, reader.path, stage)
        write_sealed_json(reader.path, {**whole, "schema": [{**column, "old": 1} for column in whole["schema"]]})
        _require_refused_as_old(reader.read, reader.path, stage)


def test_arrays_of_an_earlier_version_are_refused(tmp_path):
    reader = cache_reader(tmp_path, "labels.safetensors")
    tensors, meta = load_arrays(reader.path, "x")
    save_arrays(reader.path, {name: tensor.clone() for name, tensor in tensors.items()}, {"kind": meta["kind"]})
    _require_refused_as_old(reader.read, reader.path, "encode_and_cache_latents")

    path = tmp_path / "samples-00000.safetensors"
    images, described = torch.zeros(2, 1, 3, 3, dtype=torch.uint8), {"autoencoder": "x", "count": 2}
    for name, schema in (("images", {}), ("old", {"schema": []})):
        save_arrays(path, {name: images}, {"kind": "samples", **described, **schema})
        _require_refused_as_old(lambda: read_samples(tmp_path, "x"), path, "sample")


def test_checkpoints_of_an_earlier_version_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache_reader(tmp_path, "stats.json")
    (tmp_path / "cache" / "encoded_img").rename("encoded_img")
    stats, cpu = read_stats(), torch.device("cpu")
    on_latents = {"latents": sha256_file(LATENT_STATS)}
    denoiser = {"latent_shape": [2, 3, 3], "cond_dim": 2, "patch_size": 1, "width": 8, "depth": 1, "heads": 2}
    classifier = {"shape": [1, 8, 8], "outputs": 2, "channels": 4, "features": 4, "dropout": 0.0}
    for path, name, constructor, trained_on, settings, load in (
        (AUTOENCODER, "identity", {"image_shape": [1, 3, 3], "old": 1}, {}, {}, lambda: load_autoencoder(cpu)),
        (AUTOENCODER, "old", {"image_shape": [1, 3, 3]}, {}, {}, lambda: load_autoencoder(cpu)),
        (DENOISER, "dit", {**denoiser, "old": 1}, on_latents, {}, lambda: load_denoiser(cpu, stats)),
        (DENOISER, "dit", {"cond_dim": 2}, on_latents, {}, lambda: load_denoiser(cpu, stats)),
        (DENOISER, "dit", denoiser, on_latents, {}, lambda: load_denoiser(cpu, stats)),
        (DENOISER, "dit", denoiser, {}, {}, lambda: load_denoiser(cpu, stats)),
        (FEATURE_EXTRACTOR, "classifier", {**classifier, "old": 1}, {}, {}, lambda: load_feature_extractor(cpu)),
        (FEATURE_EXTRACTOR, "classifier", classifier, {}, {}, lambda: load_feature_extractor(cpu)),
    ):
        save_checkpoint(
            path,
            kind=path.stem,
            name=name,
            constructor=constructor,
            trained_on=trained_on,
            tensors={},
            settings=settings,
        )
        _require_refused_as_old(load, path, f"train_{path.stem}")
    save_arrays(LATENT_CLASSIFIERS, {}, {"kind": "latent_classifiers", **on_latents})
    _require_refused_as_old(load_latent_classifiers, LATENT_CLASSIFIERS, "train_latent_classifiers")


def test_moment_maps_of_an_earlier_version_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_arrays(DENOISER, {}, {})
    digest = {"denoiser": sha256_file(DENOISER)}
    for constructor, trained_on, settings in (
        ({"old": 1}, digest, {"sampling": {}}),
        ({}, digest, {"sampling": {"old": 1}}),
        ({}, digest, {}),
        ({}, {}, {"sampling": {}}),
    ):
        meta = {"constructor": constructor, "trained_on": trained_on, "settings": settings}
        save_checkpoint(MOMENT_MAPS, kind="moment_maps", name="affine", tensors={}, **meta)
        _require_refused_as_old(lambda: load_moments(torch.device("cpu")), MOMENT_MAPS, "sample")
