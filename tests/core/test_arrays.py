"""Arrays on disk come back bit by bit, and a damaged or foreign file is refused in one line."""

import contextlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError

META = {"kind": "test", "numbers": [1, 2.5, None], "nested": {"b": True, "a": "é"}}


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "images": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4),
        "labels": torch.tensor([7, -1]),
        "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "x.safetensors", _tensors(), META)
    return tmp_path / "x.safetensors"


def test_tensors_and_metadata_come_back_as_they_were(written):
    tensors, meta = load_arrays(written, "sample")
    assert meta == META
    assert tensors.keys() == _tensors().keys()
    for name, tensor in _tensors().items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_content_gives_equal_bytes_whatever_the_insertion_order(written, tmp_path):
    other = tmp_path / "other.safetensors"
    save_arrays(
        other,
        dict(reversed(_tensors().items())),
        {"nested": {"a": "é", "b": True}, "numbers": [1, 2.5, None], "kind": "test"},
    )
    assert other.read_bytes() == written.read_bytes()


def _refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_arrays(path, "sample")
    return str(caught.value)


def test_a_missing_file_names_itself_and_the_stage(tmp_path):
    message = _refused(tmp_path / "absent.safetensors")
    assert "absent.safetensors is missing" in message
    assert "dvc repro sample" in message


def test_a_file_cut_short_anywhere_is_refused(written):
    content = written.read_bytes()
    for length in range(0, len(content), 3):
        written.write_bytes(content[:length])
        assert "dvc repro sample" in _refused(written)


def test_a_flipped_bit_in_any_byte_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"x": torch.tensor([0.5]), "n": torch.tensor([7])}
    save_arrays(path, tensors, {"kind": "test"})
    content = path.read_bytes()
    unnoticed = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            read, meta = load_arrays(path, "sample")
        except UserError:
            continue
        unnoticed += 1
        assert (read, meta) == (tensors, {"kind": "test"})
    assert unnoticed < 20  # among the spaces that fill the header up


def test_without_verification_numbers_are_only_read_when_they_are_used(tmp_path):
    path = tmp_path / "x.safetensors"
    save_arrays(path, {"x": torch.zeros(1000)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    with pytest.raises(UserError, match="no longer has the sha256 that it was written with"):
        load_arrays(path, "sample")
    assert load_arrays(path, "sample", verify=False)[0]["x"][-1] == 2


def test_a_file_of_another_kind_is_refused(written):
    assert load_arrays(written, "sample", kind="test")[1] == META
    with pytest.raises(UserError, match=r"x\.safetensors \(test\) must be of kind samples; run `dvc repro sample`"):
        load_arrays(written, "sample", kind="samples")


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    tensors = {"x": torch.zeros(2)}
    for write in (
        lambda: save_file(tensors, path),
        lambda: save_file(tensors, path, {"format": "pt"}),
        lambda: save_file(tensors, path, {"latentline": "no json"}),
        lambda: torch.save(tensors, path),
        lambda: path.write_text("text"),
    ):
        write()
        assert "foreign" in _refused(path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    assert "dvc repro sample" in _refused(tmp_path)


def test_a_failed_write_leaves_the_old_file(written):
    before = written.read_bytes()
    with contextlib.suppress(ValueError):
        save_arrays(written, {"x": torch.zeros(1)}, {"bad": float("nan")})
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == [written.name]
