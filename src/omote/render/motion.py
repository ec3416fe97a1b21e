"""An expression as an image: what ARKit weights move on a face, where in its picture.

Fifty-two numbers say what moves, not where in the image. A head fitted to the face knows: its render under the weights
gives, per pixel, where that pixel's skin came from (a backward flow, as in image animation: Siarohin et al., "First Order
Motion Model", NeurIPS 2019), how far it came nearer, and where eyeballs and the inside of the mouth show.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.ndimage import maximum_filter

from omote.geometry.camera import orbit_camera, project, resize
from omote.head.model import PARTS, HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.render.rgbd import interpolate
from omote.render.zbuffer import rasterize

# Channels of a motion image: backward flow x and y (pixels of a 128² image / 8), depth change (mm / 10, positive away from
# the camera), shares of eyeball, teeth, tongue and the rest of the mouth's inside.
NUM_CHANNELS = 7
FLOW, NEARER = slice(0, 2), slice(2, 3)
SIZE = 128
READ_SIZE = 64  # what the denoiser reads of it; pixels of the source move at full size
FLOW_UNIT_PX = 8.0
DEPTH_UNIT_MM = 10.0
FARTHEST = 4.0
IMAGE_SIZE = 128
SHOWN_PARTS = tuple(
    tuple(PARTS.index(p) for p in parts)
    for parts in (("eye_left", "eye_right"), ("teeth_upper", "teeth_lower"), ("tongue",), ("mouth",))
)


@lru_cache(maxsize=1)
def mean_face() -> RestFace:
    """The mean head in the standard camera."""
    return RestFace(vertices_mm=shipped_head().template_mm, camera=orbit_camera(size=SIZE))


def motion_image(arkit: Float[np.ndarray, "52"], face: RestFace | None = None) -> Float[np.ndarray, "7 m m"]:
    """What ARKit weights move of a face, in its camera; of the mean face if there is none."""
    return MotionPainter(mean_face() if face is None else face)(arkit)


class MotionPainter:
    """Motion images of one face.

    Args:
        face: the person.
        head: whose topology and units the face has; the shipped one if None.
    """

    def __init__(self, face: RestFace, head: HeadModel | None = None) -> None:
        self.head = shipped_head() if head is None else head
        self.rest_mm = np.ascontiguousarray(face.vertices_mm, np.float32)
        self.camera = resize(face.camera, width=SIZE, height=SIZE)
        depth = rasterize(self.camera, self.rest_mm, self.head.faces, cull_back=True).depth_mm
        # The farthest of each pixel's surroundings, so that a slope is no occlusion.
        self.farthest_at_rest = maximum_filter(depth, 5)

    def __call__(self, arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "7 m m"]:
        """The motion image of ARKit weights."""
        head, camera = self.head, self.camera
        used = np.flatnonzero(arkit)
        vertices = self.rest_mm + np.tensordot(arkit[used], head.expression_mm[used], 1)
        raster = rasterize(camera, vertices, head.faces, cull_back=True)
        rest = interpolate(raster.face_id, raster.barycentric, head.faces, self.rest_mm)
        out = np.zeros((NUM_CHANNELS, SIZE, SIZE), np.float32)
        seen = raster.face_id >= 0
        came_from = project(camera, rest[seen])
        rows, columns = np.nonzero(seen)
        scale = IMAGE_SIZE / SIZE / FLOW_UNIT_PX
        out[0, seen] = (came_from[:, 0] - (columns + 0.5)) * scale
        out[1, seen] = (came_from[:, 1] - (rows + 0.5)) * scale
        # Against what was *seen* there at rest: inside an opened mouth, that was the lips in front of these teeth.
        column, row = np.clip(came_from[:, :2].astype(int), 0, SIZE - 1).T
        before = self.farthest_at_rest[row, column]
        before = np.where(before > 0, np.minimum(before, came_from[:, 2]), came_from[:, 2])
        # A silhouette may come from another surface far behind: no expression moves by that.
        out[2, seen] = np.clip((raster.depth_mm[seen] - before) / DEPTH_UNIT_MM, -FARTHEST, FARTHEST)
        part = head.face_part[raster.face_id]
        for i, parts in enumerate(SHOWN_PARTS):
            out[3 + i] = seen & np.isin(part, parts)
        return out
