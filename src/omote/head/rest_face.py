"""Where a person's face is in a picture: the shipped head fitted to one RGB-D image, for what needs more than its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.geometry.camera import rgbd_points, unproject
from omote.head.fit import fit_head
from omote.head.shipped import shipped_head
from omote.head.unit_style import shipped_unit_style
from omote.types import Camera, Rgbd

# The inside of a face: the jaw's outline slides with the view, and its depth is the background's.
FIRST_INNER_LANDMARK = 17


@dataclass(frozen=True, kw_only=True)
class RestFace:
    """A person at rest before a camera, in correspondence with the shipped head.

    Attributes:
        vertices_mm: in the camera's world.
        camera: what sees it.
        style: how far it moves in the other style of units, in [0, 1] (`UnitStyle`).
        identity: its coefficients in σ, if it is known by them.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    camera: Camera
    style: float = 0.0
    identity: Float[np.ndarray, " i"] | None = None

    def unstyled(self) -> RestFace:
        """The same face, which moves by the head model's own units alone."""
        return replace(self, style=0.0)


@dataclass(frozen=True, kw_only=True)
class FittedFace:
    """A `RestFace` as coefficients of the shipped head.

    Attributes:
        identity: σ.
        expression: ARKit weights. A face at rest gets some too, and they are part of how it rests.
        camera: its world is the head model's own frame.
    """

    identity: Float[np.ndarray, " i"]
    expression: Float[np.ndarray, "52"]
    camera: Camera

    def rest_vertices(self) -> Float[np.ndarray, "v 3"]:
        """Vertices at rest, mm in the head model's frame."""
        return shipped_head().vertices(self.identity, self.expression)

    def rest(self) -> RestFace:
        """The vertices, and how they move."""
        return RestFace(
            vertices_mm=self.rest_vertices(),
            camera=self.camera,
            style=shipped_unit_style().share(self.identity),
            identity=self.identity,
        )


def landmarks_in(image: Rgbd, pixels: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 3"]:
    """World points of landmarks seen in an image; NaN where it has no depth, and along the jaw.

    Args:
        image: metric depth.
        pixels: (u, v), pixel centres at integer + 0.5.
    """
    column = np.clip(pixels[:, 0].astype(int), 0, image.camera.width - 1)
    row = np.clip(pixels[:, 1].astype(int), 0, image.camera.height - 1)
    points = unproject(image.camera, np.column_stack([pixels, image.depth_mm[row, column]]).astype(np.float64))
    points[~image.mask[row, column]] = np.nan
    points[:FIRST_INNER_LANDMARK] = np.nan
    return points


def fit_face(image: Rgbd, landmarks_mm: Float[np.ndarray, "68 3"]) -> FittedFace:
    """Fit the shipped head to an image's depth.

    Args:
        image: in its own camera, metric.
        landmarks_mm: in the camera's world; NaN rows are unknown.

    Raises:
        AlignmentError: fewer than six landmarks, or no depth near them.
    """
    fit = fit_head(shipped_head(), rgbd_points(image)[0], landmarks=landmarks_mm, fixed_scale=1.0)
    canonical_from_head = np.eye(4)
    canonical_from_head[:3, 3] = -fit.origin_mm
    world_from_head = np.linalg.inv(fit.canonical_from_scan) @ canonical_from_head
    return FittedFace(
        identity=fit.identity.astype(np.float32),
        expression=fit.expression.astype(np.float32),
        camera=replace(image.camera, cam_from_world=image.camera.cam_from_world @ world_from_head),
    )
