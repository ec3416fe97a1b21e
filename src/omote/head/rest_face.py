"""A person's face at rest: a head model fitted to one RGB-D image, for operations that need geometry in correspondence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.geometry.camera import rgbd_points, unproject
from omote.head.fit import fit_head
from omote.head.model import HeadModel
from omote.types import Camera, Rgbd

# Jaw landmarks are excluded: the jaw's outline shifts with the view, and its depth may be that of the background.
FIRST_INNER_LANDMARK = 17


@dataclass(frozen=True, kw_only=True)
class RestFace:
    """A person at rest in front of a camera, in correspondence with a head model.

    Attributes:
        head: head model.
        vertices_mm: vertices of the face in the camera's world frame.
        camera: camera of the image.
        style: share of the head model's second set of units, in [0, 1] (`HeadModel.style_share`).
        identity: identity coefficients of the head model in σ, if known.
        sigma_mm: standard deviation of each vertex's error along its normal, mm, if a completion states it.
    """

    head: HeadModel
    vertices_mm: Float[np.ndarray, "v 3"]
    camera: Camera
    style: float = 0.0
    identity: Float[np.ndarray, " i"] | None = None
    sigma_mm: Float[np.ndarray, " v"] | None = None

    def unstyled(self) -> RestFace:
        """The same face with the head model's own expression units alone."""
        return replace(self, style=0.0)

    def in_head(self, head: HeadModel) -> RestFace:
        """The same person in the topology of another head model, which is fitted to the skin at rest.

        Raises:
            AlignmentError: the head model cannot be fitted.
        """
        skin = self.vertices_mm[self.head.part_vertices("skin")].astype(np.float64)
        return _fitted(head, skin, self.head.landmarks(self.vertices_mm), self.camera).rest()

    def moved(self, arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "v 3"]:
        """Vertices (mm, single precision) under ARKit weights, in the camera's world frame."""
        return self.head.moved(np.ascontiguousarray(self.vertices_mm, np.float32), arkit, self.style)

    def drawn_mm(self, arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "v 3"]:
        """Offsets (mm) of ARKit weights, as a motion image draws them."""
        return self.moved(arkit) - self.vertices_mm


@dataclass(frozen=True, kw_only=True)
class FittedFace:
    """A `RestFace` represented by coefficients of a head model.

    Attributes:
        head: head model.
        identity: identity coefficients, in σ.
        expression: ARKit weights of the face at rest, which are part of its resting appearance.
        camera: camera of the image, whose world frame is the head model's frame.
    """

    head: HeadModel
    identity: Float[np.ndarray, " i"]
    expression: Float[np.ndarray, "52"]
    camera: Camera

    def rest_vertices(self) -> Float[np.ndarray, "v 3"]:
        """Vertices at rest, in mm in the head model's frame."""
        return self.head.vertices(self.identity, self.expression)

    def rest(self) -> RestFace:
        """The `RestFace` of these coefficients."""
        return RestFace(
            head=self.head,
            vertices_mm=self.rest_vertices(),
            camera=self.camera,
            style=self.head.style_share(self.identity),
            identity=self.identity,
        )


def landmarks_in(image: Rgbd, pixels: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "68 3"]:
    """World points of the landmarks in an image; NaN where the image has no depth, and along the jaw.

    Args:
        image: RGB-D image with metric depth.
        pixels: landmark positions (u, v) in pixels, with pixel centres at integer + 0.5.
    """
    column = np.clip(pixels[:, 0].astype(int), 0, image.camera.width - 1)
    row = np.clip(pixels[:, 1].astype(int), 0, image.camera.height - 1)
    points = unproject(image.camera, np.column_stack([pixels, image.depth_mm[row, column]]).astype(np.float64))
    points[~image.mask[row, column]] = np.nan
    points[:FIRST_INNER_LANDMARK] = np.nan
    return points


def fit_face(head: HeadModel, image: Rgbd, landmarks_mm: Float[np.ndarray, "68 3"]) -> FittedFace:
    """Fit a head model to an image's depth.

    Args:
        head: head model.
        image: RGB-D image with metric depth.
        landmarks_mm: landmarks in the camera's world frame; NaN rows mark unknown landmarks.

    Raises:
        AlignmentError: there are fewer than six landmarks, or no depth near them.
    """
    return _fitted(head, rgbd_points(image)[0], landmarks_mm, image.camera)


def _fitted(
    head: HeadModel, points_mm: Float[np.ndarray, "n 3"], landmarks_mm: Float[np.ndarray, "68 3"], camera: Camera
) -> FittedFace:
    fit = fit_head(head, points_mm, landmarks=landmarks_mm, fixed_scale=1.0)
    canonical_from_head = np.eye(4)
    canonical_from_head[:3, 3] = -fit.origin_mm
    world_from_head = np.linalg.inv(fit.canonical_from_scan) @ canonical_from_head
    return FittedFace(
        head=head,
        identity=fit.identity.astype(np.float32),
        expression=fit.expression.astype(np.float32),
        camera=replace(camera, cam_from_world=camera.cam_from_world @ world_from_head),
    )
