"""Inception-v3 as the literature's FID uses it: the network of torch-fidelity, with TensorFlow's weights of 2015.

Szegedy et al., arXiv 1512.00567; FID: Heusel et al., arXiv 1706.08500. The layers have the names of the weights' file.
Tests compare features with torch-fidelity's own module.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.errors import UserError

_Kernel = int | tuple[int, int]
_Layer = tuple[int, _Kernel]  # outputs, kernel
_FORK: tuple[_Kernel, _Kernel] = ((1, 3), (3, 1))  # two convolutions of the same input, at the end of a branch


class _NormalizedConv(nn.Module):
    """Convolution, batch normalisation and ReLU; maps keep their size where ``stride`` is 1 and ``padded``."""

    def __init__(self, inputs: int, outputs: int, kernel: _Kernel, stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) -> (B, outputs, H', W')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _InceptionBlock(nn.Module):
    """Branches of convolutions and one of pooling, side by side.

    Args:
        inputs: channels.
        branches: name -> layers. The layers are named ``NAME_1``, ``NAME_2``, ...; a single one ``NAME``.
        pooled: outputs of the convolution after the pooling; 0 = none.
        pool: ``average`` or ``max``.
        stride: 2 halves the maps, in the last layer of each branch and in the pooling; these are then unpadded.
        fork: names of branches that end in two convolutions, ``NAME_Na`` and ``NAME_Nb``.
    """

    def __init__(
        self,
        inputs: int,
        branches: Mapping[str, Sequence[_Layer]],
        pooled: int,
        pool: str = "average",
        stride: int = 1,
        fork: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._chains: list[list[str]] = []
        self._forks: list[list[str]] = []
        self._average, self._stride = pool == "average", stride
        for branch, layers in branches.items():
            widths = [inputs, *(outputs for outputs, _ in layers)]
            ends = [f"{branch}_{len(layers) + 1}{letter}" for letter in "ab"] if branch in fork else []
            single = len(layers) == 1 and not ends
            names = [branch] if single else [f"{branch}_{number + 1}" for number in range(len(layers))]
            for name, (before, after), (_, kernel) in zip(names, pairwise(widths), layers, strict=True):
                last = stride if name == names[-1] else 1
                self.add_module(name, _NormalizedConv(before, after, kernel, last, padded=last == 1))
            for name, kernel in zip(ends, _FORK, strict=False):
                self.add_module(name, _NormalizedConv(widths[-1], widths[-1], kernel))
            self._chains.append(names)
            self._forks.append(ends)
        self.branch_pool = _NormalizedConv(inputs, pooled, 1) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) -> (B, outputs of all branches, H', W')."""
        outputs = []
        for chain, ends in zip(self._chains, self._forks, strict=True):
            y = x
            for name in chain:
                y = self.get_submodule(name)(y)
            outputs += [self.get_submodule(name)(y) for name in ends] or [y]
        padding = 1 if self._stride == 1 else 0
        if self._average:  # TensorFlow's average leaves the padding out
            pooled = F.avg_pool2d(x, 3, self._stride, padding, count_include_pad=False)
        else:
            pooled = F.max_pool2d(x, 3, self._stride, padding)
        return torch.cat([*outputs, pooled if self.branch_pool is None else self.branch_pool(pooled)], dim=1)


def _block_a(inputs: int, pooled: int) -> _InceptionBlock:
    double: list[_Layer] = [(64, 1), (96, 3), (96, 3)]
    return _InceptionBlock(
        inputs, {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": double}, pooled
    )


def _block_c(width: int) -> _InceptionBlock:
    """Return a block of 768 channels with factorised 7x7 convolutions."""
    once: list[_Layer] = [(width, 1), (width, (1, 7)), (192, (7, 1))]
    twice: list[_Layer] = [(width, 1), (width, (7, 1)), (width, (1, 7)), (width, (7, 1)), (192, (1, 7))]
    return _InceptionBlock(768, {"branch1x1": [(192, 1)], "branch7x7": once, "branch7x7dbl": twice}, 192)


def _block_e(inputs: int, pool: str) -> _InceptionBlock:
    branches: dict[str, list[_Layer]] = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1)],
        "branch3x3dbl": [(448, 1), (384, 3)],
    }
    return _InceptionBlock(inputs, branches, 192, pool, fork=("branch3x3", "branch3x3dbl"))


class InceptionV3(nn.Module):
    """Network whose 2048 features, of the last average pooling, are those of FID, for images of any size.

    A new network is untrained; its weights come from :meth:`load_published`.
    """

    input_size = 299  # pixels per side

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _NormalizedConv(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = _NormalizedConv(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _NormalizedConv(32, 64, 3)
        self.Conv2d_3b_1x1 = _NormalizedConv(64, 80, 1)
        self.Conv2d_4a_3x3 = _NormalizedConv(80, 192, 3, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _InceptionBlock(
            288, {"branch3x3": [(384, 3)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}, 0, "max", 2
        )
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_block_c, (128, 160, 160, 192))
        wide: list[_Layer] = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
        self.Mixed_7a = _InceptionBlock(768, {"branch3x3": [(192, 1), (320, 3)], "branch7x7x3": wide}, 0, "max", 2)
        # The last block pools by the maximum, a slip of 2015 that the published weights were trained with.
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, "average"), _block_e(2048, "max")

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of torch-fidelity's or pytorch-fid's file; those of the classifier (``fc``) are left out.

        Raises:
            UserError: the weights are of another network.
        """
        try:
            self.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
        except RuntimeError:
            raise UserError(
                "feature_extractor.path must hold the weights of FID's Inception, but its tensors have other names or "
                "shapes; correct the path"
            ) from None

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1], C = 1 (grey) or 3, of uint8 images -> (B, 2048), >= 0."""
        pixels = (127.5 * (x + 1)).round()  # the images' own bytes, as FID is defined on
        pixels = _resized(pixels.expand(-1, 3, -1, -1), self.input_size)  # (B, 3, 299, 299)
        x = (pixels - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return x.mean(dim=(2, 3))


def _resized(x: Tensor, size: int) -> Tensor:
    """Return maps (B, C, size, size) by the bilinear interpolation of TensorFlow 1, whose grid begins at the corner."""
    for axis in (3, 2):
        length = x.shape[axis]
        positions = torch.arange(size, device=x.device, dtype=x.dtype) * torch.tensor(length / size, dtype=x.dtype)
        low = positions.long()
        shape = [size if dim == axis else 1 for dim in range(4)]
        fraction = (positions - low).view(shape)
        below = x.index_select(axis, low)
        above = x.index_select(axis, (low + 1).clamp(max=length - 1))
        x = below + (above - below) * fraction
    return x
