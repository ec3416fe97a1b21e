"""A row's images beside the true renders: the input of metrics of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from omote.evaluation import metrics
from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class RgbdArrays:
    """Several RGB-D images as arrays; colour in [0, 1], z-depth in mm."""

    rgb: Float[np.ndarray, "n h w 3"]
    depth_mm: Float[np.ndarray, "n h w"]
    mask: Bool[np.ndarray, "n h w"]


def stacked(images: Sequence[Rgbd]) -> RgbdArrays:
    """Images of one size as arrays."""
    return RgbdArrays(
        rgb=np.stack([i.rgb for i in images]),
        depth_mm=np.stack([i.depth_mm for i in images]),
        mask=np.stack([i.mask for i in images]),
    )


def batch(images: RgbdArrays) -> Float[Tensor, "n 3 h w"]:
    """Colours as a batch for networks."""
    return torch.from_numpy(images.rgb).permute(0, 3, 1, 2).float().contiguous()


def filled(images: RgbdArrays) -> RgbdArrays:
    """Images whose holes are filled with their median depth: missing depth counts as wrong."""
    median = [np.median(d[m]) if m.any() else 0.0 for d, m in zip(images.depth_mm, images.mask, strict=True)]
    return replace(images, depth_mm=np.where(images.mask, images.depth_mm, np.array(median)[:, None, None]))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row's images and the ground truth.

    Attributes:
        shown: images of the row, with holes filled (`filled`).
        true: true renders; their mask determines the measured pixels.
        source: true render of the source, once per image.
        intrinsics: intrinsics of each image's camera, in pixels.
        landmarks_px: true landmarks of each image.
    """

    shown: RgbdArrays
    true: RgbdArrays
    source: RgbdArrays
    intrinsics: Float[np.ndarray, "n 3 3"]
    landmarks_px: Float[np.ndarray, "n 68 2"]

    @property
    def depths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The row's depth, the true depth, and the true mask."""
        return self.shown.depth_mm, self.true.depth_mm, self.true.mask

    @property
    def colors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The row's colours, the true colours, and the true mask."""
        return self.shown.rgb, self.true.rgb, self.true.mask

    @cached_property
    def depth(self) -> metrics.DepthErrors:
        """Depth errors over the true mask."""
        return metrics.depth_errors(*self.depths)

    def depth_mae_mm(self, mask: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n"]:
        """Mean absolute depth error over a part of the pixels."""
        return metrics.depth_errors(self.shown.depth_mm, self.true.depth_mm, mask).mae_mm

    @property
    def moving(self) -> Bool[np.ndarray, "n h w"]:
        """Pixels whose true depth changes by more than `omote.evaluation.metrics.MOVING_MM`."""
        return metrics.moving_mask(self.true.depth_mm, self.true.mask, self.source.depth_mm, self.source.mask)

    @property
    def still(self) -> Bool[np.ndarray, "n h w"]:
        """Pixels whose true depth changes by less than `omote.evaluation.metrics.STILL_MM`."""
        change = np.abs(self.true.depth_mm - self.source.depth_mm)
        return self.true.mask & self.source.mask & (change < metrics.STILL_MM)

    @property
    def mouth(self) -> Bool[np.ndarray, "n h w"]:
        """Pixels of the true mask in a box around the true mouth."""
        height, width = self.true.mask.shape[1:]
        return self.true.mask & metrics.box_mask(metrics.mouth_boxes(self.landmarks_px), height=height, width=width)

    @cached_property
    def face(self) -> Bool[np.ndarray, "n h w"]:
        """Pixels of the true mask inside the face's outline: no ears, neck or hair."""
        height, width = self.true.mask.shape[1:]
        return self.true.mask & metrics.face_masks(self.landmarks_px, height=height, width=width)
