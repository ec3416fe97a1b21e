"""ArcFace's residual networks (Deng et al., CVPR 2019), with the names of the weights in insightface's ``backbone`` files."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

SIZE, NUM_FEATURES = 112, 512
BLOCKS = {"arcface_r50": (3, 4, 14, 3), "arcface_r100": (3, 13, 30, 3)}
CHANNELS = (64, 128, 256, 512)
# Positions of the eyes' centres, the nose tip and the mouth's corners in insightface's crop of 112 × 112 pixels.
TEMPLATE_PX = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, 1, 1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(outer), nn.PReLU(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)) if stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """An iresnet: 512-d descriptors whose cosine separates persons."""

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(64), nn.PReLU(64)
        stages, inner = [], 64
        for channels, count in zip(CHANNELS, blocks, strict=True):
            stages.append(
                nn.Sequential(
                    *(_Block(inner if k == 0 else channels, channels, 2 if k == 0 else 1) for k in range(count))
                )
            )
            inner = channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, NUM_FEATURES)
        self.features = nn.BatchNorm1d(NUM_FEATURES)

    def forward(self, rgb: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 512"]:
        """Descriptors of aligned faces in [0, 1], not normalised."""
        x = self.prelu(self.bn1(self.conv1(2 * rgb - 1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))
