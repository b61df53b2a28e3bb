"""Model folders of diffusers: written as diffusers reads them, and never read from a pickle."""

import pytest
import torch
from safetensors import safe_open

from latentline.core.errors import UserError
from latentline.interop.diffusers_folder import read_diffusers_folder, write_diffusers_folder


def test_a_folder_comes_back_as_it_was_written(tmp_path):
    tensors = {"a.weight": torch.randn(3, 2).T, "b": torch.arange(4.0)}
    write_diffusers_folder(tmp_path / "new" / "folder", {"_class_name": "X"}, tensors)
    config, read, digest = read_diffusers_folder(tmp_path / "new" / "folder")
    assert config == {"_class_name": "X"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert len(digest) == 64


def test_the_file_holds_the_metadata_that_other_libraries_require(tmp_path):
    write_diffusers_folder(tmp_path, {}, {"a": torch.zeros(1)})
    with safe_open(tmp_path / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_pickle_is_not_read_even_when_it_is_all_there_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(
        UserError, match=r"must be a folder that diffusers wrote with safetensors, but has no diffusion_"
    ):
        read_diffusers_folder(tmp_path)
