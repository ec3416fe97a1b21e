"""The Inception-V3 network that defines FID: TensorFlow's of December 2015, with its own pooling.

Names and shapes of the weights are those of the port in common use (pytorch-fid's ``pt_inception-2015-12-05``).

References:
    Szegedy et al., CVPR 2016, figures 5-7 and table 1; Heusel et al., NeurIPS 2017. In the graph of 2015, average pooling
    excludes
        padding from the mean, and the last block uses maximum pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIZE = 299
NUM_FEATURES, NUM_CLASSES = 2048, 1008


class _Conv(nn.Module):
    """Convolution, normalisation and ReLU."""

    def __init__(
        self, inner: int, outer: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outer, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _row(inner: int, outer: int, width: int) -> _Conv:
    return _Conv(inner, outer, (1, width), padding=(0, width // 2))


def _column(inner: int, outer: int, height: int) -> _Conv:
    return _Conv(inner, outer, (height, 1), padding=(height // 2, 0))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _through(x: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class _A(nn.Module):
    """Two 3 × 3 convolutions instead of 5 × 5 (figure 5)."""

    def __init__(self, inner: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inner, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inner, 48, 1), _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inner, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inner, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = _through(x, (self.branch5x5_1, self.branch5x5_2))
        three = _through(x, (self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], 1)


class _B(nn.Module):
    """Reduction to half the resolution."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inner, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inner, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = _through(x, (self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class _C(nn.Module):
    """7 × 7 convolutions as 1 × 7 and 7 × 1 (figure 6)."""

    def __init__(self, inner: int, c: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inner, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = (
            _Conv(inner, c, 1), _row(c, c, 7), _column(c, 192, 7),
        )  # fmt: skip
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _Conv(inner, c, 1), _column(c, c, 7)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _row(c, c, 7), _column(c, c, 7)
        self.branch7x7dbl_5 = _row(c, 192, 7)
        self.branch_pool = _Conv(inner, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = _through(x, (self.branch7x7_1, self.branch7x7_2, self.branch7x7_3))
        twice = _through(
            x,
            (self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5),
        )
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_average(x))], 1)


class _D(nn.Module):
    """Second reduction to half the resolution."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(inner, 192, 1), _Conv(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _Conv(inner, 192, 1), _row(192, 192, 7)
        self.branch7x7x3_3, self.branch7x7x3_4 = _column(192, 192, 7), _Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = _through(x, (self.branch3x3_1, self.branch3x3_2))
        seven = _through(x, (self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class _E(nn.Module):
    """3 × 3 convolutions expanded to 1 × 3 and 3 × 1 (figure 7)."""

    def __init__(self, inner: int, *, max_pool: bool) -> None:
        super().__init__()
        self.max_pool = max_pool
        self.branch1x1, self.branch3x3_1 = _Conv(inner, 320, 1), _Conv(inner, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _row(384, 384, 3), _column(384, 384, 3)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inner, 448, 1), _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _row(384, 384, 3), _column(384, 384, 3)
        self.branch_pool = _Conv(inner, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pool else _average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(once),
                self.branch3x3_2b(once),
                self.branch3x3dbl_3a(twice),
                self.branch3x3dbl_3b(twice),
                self.branch_pool(pooled),
            ],
            1,
        )


class InceptionV3(nn.Module):
    """The network, up to its 2048 pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Conv(3, 32, 3, 2), _Conv(32, 32, 3)
        self.Conv2d_2b_3x3, self.Conv2d_3b_1x1 = _Conv(32, 64, 3, padding=1), _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6a = _B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _C(768, 128),
            _C(768, 160),
            _C(768, 160),
            _C(768, 192),
        )
        self.Mixed_7a = _D(768)
        self.Mixed_7b, self.Mixed_7c = _E(1280, max_pool=False), _E(2048, max_pool=True)
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, rgb: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        """Pooled features of colours in [0, 1]."""
        x = _through(2 * rgb - 1, (self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3))
        x = _through(F.max_pool2d(x, 3, 2), (self.Conv2d_3b_1x1, self.Conv2d_4a_3x3))
        x = _through(
            F.max_pool2d(x, 3, 2),
            (
                self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d,
                self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c,
            ),
        )  # fmt: skip
        return x.mean(dim=(2, 3))

    def probabilities(self, features: Float[Tensor, "b 2048"]) -> Float[Tensor, "b 1008"]:
        """Probabilities of the classes for the Inception score; like its first implementation, without the biases."""
        return F.linear(features, self.fc.weight).softmax(dim=1)
