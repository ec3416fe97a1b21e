"""Motion images: the motion that ARKit weights cause on the face in the source image.

The 52 weights say what moves, but not where in the image, which takes long to learn through attention alone. A head fitted to the
face gives the positions: its render under the weights shows, for every pixel, where its skin was at rest (a backward flow, as in
image animation: Siarohin et al., "First Order Motion Model", NeurIPS 2019), how its depth changed, and where eyeballs and the
inside of the mouth are visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import maximum_filter
from torch import Tensor

from omote.geometry.camera import orbit_camera, project, resize, transform
from omote.head.model import PARTS, HeadModel
from omote.head.rest_face import FIRST_INNER_LANDMARK, RestFace
from omote.rendering.rgbd import interpolate
from omote.rendering.zbuffer import rasterize
from omote.rgbd.codec import DEPTH_SCALE_MM, reference_depth_mm
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import READ_SIZE, Condition, Kind, Reader
from omote.rgbd.warp import (
    DEPTH_UNIT_MM,
    FLOW_UNIT_PX,
    FRONT_DEPTH,
    IMAGE_SIZE,
    MOVED_DEPTH,
    NUM_CHANNELS,
    NUM_READ,
    READ,
    REST_DEPTH,
    resized,
)
from omote.types import Expression

SIZE = 128
FARTHEST = 4.0
SHOWN_PARTS = tuple(
    tuple(PARTS.index(p) for p in parts)
    for parts in (("eye_left", "eye_right"), ("teeth_upper", "teeth_lower"), ("tongue",), ("mouth",))
)


@dataclass(frozen=True, kw_only=True)
class Motion(Kind):
    """Motion images of ARKit weights, which are dropped together with the weights.

    Attributes:
        image: channels described in `omote.rgbd.warp`; only decoders read those not in `READ`.
    """

    name: ClassVar[str] = "motion"
    part_of: ClassVar[type[Kind] | None] = Arkit

    image: Float[Tensor, "b c m m"]

    @classmethod
    def of(cls, expressions: Sequence[Expression], face: RestFace | None) -> Motion | None:
        """Motion images of the expressions with ARKit weights; None if no face is known."""
        return None if face is None else cls.drawn(Arkit.of(expressions, face), [face] * len(expressions))

    @classmethod
    def drawn(cls, arkit: Arkit, faces: Sequence[RestFace]) -> Motion:
        """Render the motion images of the given weights, the costly part of a condition.

        Args:
            arkit: ARKit weights.
            faces: faces of the items; neighbouring items may share one.
        """
        image = torch.zeros(len(faces), NUM_CHANNELS, SIZE, SIZE)
        painter = None
        for i in torch.nonzero(arkit.given).flatten().tolist():
            if painter is None or painter.face is not faces[i]:
                painter = MotionPainter(faces[i])
            image[i] = torch.from_numpy(painter(arkit.weights[i].numpy()))
        return cls(image=image, given=arkit.given)

    def compact(self, latent_size: int) -> Motion:
        """The channels that the denoiser reads, at the larger of `READ_SIZE` and the latent's size, in half precision."""
        size = min(SIZE, max(READ_SIZE, latent_size))
        return replace(self, image=resized(self.image[:, READ], size).half())


class MotionReader(Reader):
    """A reader of the first channels of a motion image."""

    def __init__(self, width: int) -> None:
        super().__init__(width, num_tokens=0, num_channels=NUM_READ)

    def channels(self, value: Motion) -> Float[Tensor, "b 7 r r"]:
        """Flow, depth change, and shares of eyeball, teeth, tongue and the rest of the mouth's inside."""
        return resized(value.image[:, READ], READ_SIZE)


def motion_of(condition: Condition, like: Tensor) -> Float[Tensor, "b c m m"]:
    """The motion images of a condition; zeros where none is given.

    Args:
        condition: condition with or without motion images.
        like: tensor of the wanted type and device.
    """
    motion = condition.find(Motion)
    if motion is None:
        return like.new_zeros(condition.size, NUM_CHANNELS, SIZE, SIZE)
    return motion.image * motion.given.view(-1, 1, 1, 1)


def mean_face(head: HeadModel) -> RestFace:
    """The mean face of a head model in the standard camera."""
    return RestFace(head=head, vertices_mm=head.template_mm, camera=orbit_camera(size=SIZE))


def _landmark_depth_mm(face: RestFace) -> float:
    points = face.head.landmarks(face.vertices_mm)[FIRST_INNER_LANDMARK:]
    return float(transform(face.camera.cam_from_world, points.astype(np.float64))[:, 2].mean())


class MotionPainter:
    """A renderer of motion images of one face.

    Args:
        face: face at rest, in the camera of the source image.
    """

    def __init__(self, face: RestFace) -> None:
        self.face, self.head = face, face.head
        self.rest_mm = np.ascontiguousarray(face.vertices_mm, np.float32)
        self.camera = resize(face.camera, width=SIZE, height=SIZE)
        depth = rasterize(self.camera, self.rest_mm, self.head.faces, cull_back=True).depth_mm
        # The largest depth around each pixel, so that a slope is not taken for an occlusion.
        self.farthest_at_rest = maximum_filter(depth, 5)
        # The frame of an arbitrary head does not define the reference plane of the image's depth. It is placed behind the
        # landmarks, by the distance from the mean head's landmarks to its centre.
        mean = mean_face(face.head)
        center_behind_mm = reference_depth_mm(mean.camera) - _landmark_depth_mm(mean)
        self.front_mm = _landmark_depth_mm(face) + center_behind_mm - FRONT_DEPTH * DEPTH_SCALE_MM
        self.rest_depth = np.where(depth > 0, (depth - self.front_mm) / DEPTH_SCALE_MM, 0.0)

    def __call__(self, arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "9 m m"]:
        """The motion image of ARKit weights."""
        head, camera = self.head, self.camera
        raster = rasterize(camera, self.face.moved(arkit), head.faces, cull_back=True)
        seen, depth = raster.face_id >= 0, raster.depth_mm
        rest = interpolate(raster.face_id, raster.barycentric, head.faces, self.rest_mm)
        out = np.zeros((NUM_CHANNELS, SIZE, SIZE), np.float32)

        came_from = project(camera, rest[seen])
        rows, columns = np.nonzero(seen)
        scale = IMAGE_SIZE / SIZE / FLOW_UNIT_PX
        out[0, seen] = (came_from[:, 0] - (columns + 0.5)) * scale
        out[1, seen] = (came_from[:, 1] - (rows + 0.5)) * scale

        # Compared with the surface that was visible there at rest: for teeth in an opened mouth, the lips before them.
        column, row = np.clip(came_from[:, :2].astype(int), 0, SIZE - 1).T
        before = self.farthest_at_rest[row, column]
        before = np.where(before > 0, np.minimum(before, came_from[:, 2]), came_from[:, 2])
        # At a silhouette the flow may point to another surface far behind, farther than any expression moves.
        out[2, seen] = np.clip((depth[seen] - before) / DEPTH_UNIT_MM, -FARTHEST, FARTHEST)

        part = head.face_part[raster.face_id]
        for i, parts in enumerate(SHOWN_PARTS):
            out[3 + i] = seen & np.isin(part, parts)
        out[MOVED_DEPTH, seen] = (depth[seen] - self.front_mm) / DEPTH_SCALE_MM
        out[REST_DEPTH] = self.rest_depth
        return out
