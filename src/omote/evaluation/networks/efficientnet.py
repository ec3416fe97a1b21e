"""EfficientNet-Lite0: general image features, 1280 per picture."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omote.evaluation.judges.networks import pad_same

# Kernel, stride, expansion, channels and repeats of each stage (Tan & Le, ICML 2019, table 1, without squeeze-excitation and with
# ReLU6, as in the "lite" variant).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
EPSILON = 1e-3
SIZE = 224
MEAN, STD = 127.0 / 255.0, 128.0 / 255.0


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, inner: int, kernel: int, stride: int, expansion: int, outer: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.kernel, self.stride = kernel, stride
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, outer, 1, bias=False)
        self._bn2 = _norm(outer)
        self.skips = stride == 1 and inner == outer
        self.expands = expansion != 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(pad_same(y, self.kernel, self.stride))))
        y = self._bn2(self._project_conv(y))
        return y + x if self.skips else y


class EfficientNetLite0(nn.Module):
    """The network, up to its pooled features or its classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, inner = [], 32
        for kernel, stride, expansion, outer, repeats in STAGES:
            for k in range(repeats):
                blocks.append(_Block(inner, kernel, stride if k == 0 else 1, expansion, outer))
                inner = outer
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def stages(self, rgb: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps of colours in [0, 1], at the end of each of the five resolutions; the last is before pooling."""
        x = F.relu6(self._bn0(self._conv_stem(pad_same((rgb - MEAN) / STD, 3, 2))))
        maps: list[Tensor] = []
        for block in self._blocks:
            assert isinstance(block, _Block)
            if block.stride == 2:
                maps.append(x)
            x = block(x)
        return [*maps, F.relu6(self._bn1(self._conv_head(x)))]

    def forward(self, rgb: Float[Tensor, "b 3 224 224"]) -> Float[Tensor, "b 1280"]:
        """Pooled features of colours in [0, 1]."""
        return self.stages(rgb)[-1].mean(dim=(2, 3))

    def probabilities(self, features: Float[Tensor, "b 1280"]) -> Float[Tensor, "b 1000"]:
        """Probabilities of ImageNet's classes."""
        return self._fc(features).softmax(dim=1)
