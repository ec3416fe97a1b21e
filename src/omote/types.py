"""The things that stages hand each other: frozen dataclasses of arrays with shapes, units and ranges.

Conventions everywhere: OpenCV camera axes (x right, y down, z forward); the canonical head frame is x to the person's
left, y up, z out of the face, origin midway between the eyeball centres, millimetres; colours are linear floats in
[0, 1] of sRGB-encoded values; ``mask`` is True where valid; depth is z-depth (not ray length) in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera; pixel centres lie at integer + 0.5.

    Attributes:
        intrinsics: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels.
        cam_from_world: rigid transform of homogeneous world points (mm) into the camera's OpenCV frame.
        width: pixels.
        height: pixels.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    cam_from_world: Float[np.ndarray, "4 4"]
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Rgbd:
    """A colour image with metric depth.

    Attributes:
        rgb: [0, 1].
        depth_mm: z-depth; 0 where invalid.
        mask: True where depth is valid.
        camera: the camera that saw it.
    """

    rgb: Float[np.ndarray, "height width 3"]
    depth_mm: Float[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    camera: Camera


@dataclass(frozen=True, kw_only=True)
class PointCloud:
    """Points, in the file's own unit until aligned and in millimetres after."""

    points: Float[np.ndarray, "num_points 3"]
    colors: Float[np.ndarray, "num_points 3"] | None = None
    normals: Float[np.ndarray, "num_points 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A triangle mesh, in the file's own unit until aligned and in millimetres after.

    Attributes:
        vertices: positions.
        faces: vertex ids, counter-clockwise seen from outside.
        vertex_colors: [0, 1], or None.
        uv: texture coordinates, origin at the lower left (OBJ convention), or None.
        faces_uv: ids into ``uv`` per face corner, or None.
        texture: [0, 1], row 0 at the top, or None.
    """

    vertices: Float[np.ndarray, "num_vertices 3"]
    faces: Int[np.ndarray, "num_faces 3"]
    vertex_colors: Float[np.ndarray, "num_vertices 3"] | None = None
    uv: Float[np.ndarray, "num_uv 2"] | None = None
    faces_uv: Int[np.ndarray, "num_faces 3"] | None = None
    texture: Float[np.ndarray, "tex_height tex_width 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class FusedMesh(Mesh):
    """A mesh made of a depth camera's frames, which is open where no frame saw anything."""


Scan: TypeAlias = PointCloud | Mesh | Rgbd
# Of a scan's coordinates; "auto" is estimated.
Unit = Literal["auto", "mm", "cm", "m", "in"]


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A wanted expression.

    Attributes:
        category: one of `omote.head.expressions.CATEGORIES`.
        intensity: [0, 1].
        arkit: optional ARKit-52 weights in [0, 1], in `omote.head.expressions.ARKIT_NAMES` order; they determine
            the expression exactly where the category alone leaves it open.
        text: the words it was asked for in, if it was; they then speak to the diffusion model in the category's place.
        geometry: what the face should be shaped like, in the source's camera; its depth is read, and its colour is not.
    """

    category: str
    intensity: float = 1.0
    arkit: Float[np.ndarray, "52"] | None = None
    text: str | None = None
    geometry: Rgbd | None = None

    @property
    def name(self) -> str:
        """What to call it: its words, or its category."""
        return self.category if self.text is None else self.text


@dataclass(frozen=True, kw_only=True)
class Head:
    """A person as a head model's vertices, in correspondence with its faces and UVs.

    Attributes:
        model_name: the head model (`HeadModel.name`).
        vertices_mm: canonical frame.
        inferred: True for vertices that no camera saw.
        sigma_mm: standard deviation of each vertex's error along its normal, mm, if a completion states it.
    """

    model_name: str
    vertices_mm: Float[np.ndarray, "num_vertices 3"]
    inferred: Bool[np.ndarray, "num_vertices"]
    sigma_mm: Float[np.ndarray, "num_vertices"] | None = None


@dataclass(frozen=True, kw_only=True)
class Avatar:
    """A textured head with named morph targets.

    Attributes:
        neutral: the person at rest.
        morphs_mm: per target name, vertex offsets from ``neutral``.
        texture: baked skin colour, [0, 1], row 0 at the top.
        texture_inferred: True for texels that no camera saw.
        surroundings: hair, collar, glasses: what the scan has beyond the head, canonical mm; None if there is none. It moves
            with the head as a rigid piece.
    """

    neutral: Head
    morphs_mm: dict[str, Float[np.ndarray, "num_vertices 3"]]
    texture: Float[np.ndarray, "tex_height tex_width 3"]
    texture_inferred: Bool[np.ndarray, "tex_height tex_width"]
    surroundings: Mesh | None = None
