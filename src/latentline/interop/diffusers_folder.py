"""Model folders of diffusers: config.json and diffusion_pytorch_model.safetensors."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.files import replaced_file, sha256_file, write_json

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_diffusers_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return the config, the weights and the sha256 of the weights' file. Pickles are never read.

    Raises:
        UserError: a file is missing or damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} must be a folder that diffusers wrote with safetensors, but has no {name}; "
                "download or convert it"
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"{CONFIG} must hold a JSON object")
        return config, load_file(folder / WEIGHTS), sha256_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({error}); download it again") from None


def write_diffusers_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write both files. The folder is created if needed; other files in it stay."""
    with replaced_file(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
    write_json(folder / CONFIG, config)
