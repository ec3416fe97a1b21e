"""What every completion takes and gives: a partial scan with the head fitted to it, and a whole head with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.rendering.zbuffer import rasterize
from omote.types import Camera

# A surface seen at a slant has this cosine at least, when its error along the normal is turned into one of depth.
LEAST_COSINE = 0.2


@dataclass(frozen=True, kw_only=True)
class PartialScan:
    """What was seen of a head, in the canonical frame.

    Attributes:
        points_mm: seen points of the surface.
        normals: outward unit normals of the points.
        colors: sRGB colours in [0, 1], or None.
        fitted_mm: vertices of the head model's linear fit to the points.
    """

    points_mm: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"] | None
    fitted_mm: Float[np.ndarray, "v 3"]


@dataclass(frozen=True, kw_only=True)
class CompletedDepth:
    """A completed head as a camera sees it.

    Attributes:
        depth_mm: z-depth in mm; 0 outside the head.
        sigma_mm: standard deviation of the depth's error, mm; 0 outside.
        mask: pixels of the head.
    """

    depth_mm: Float[np.ndarray, "h w"]
    sigma_mm: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class CompletedHead:
    """A whole head in correspondence with the head model.

    Attributes:
        vertices_mm: vertices in the canonical frame; NaN where a completion leaves them unknown.
        sigma_mm: standard deviation of each vertex's error along its normal, mm; NaN where a completion does not say.
        seen: vertices that points of the scan support.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    sigma_mm: Float[np.ndarray, " v"]
    seen: Bool[np.ndarray, " v"]

    def depth(self, head: HeadModel, camera: Camera) -> CompletedDepth:
        """Depth and its standard deviation in any camera.

        An error along the normal is one of depth divided by the cosine between the normal and the line of sight.
        """
        known = np.isfinite(self.vertices_mm).all(axis=1)
        faces = head.faces if known.all() else head.faces[known[head.faces].all(axis=1)]
        vertices = np.where(known[:, None], self.vertices_mm, 0.0)
        raster = rasterize(camera, np.ascontiguousarray(vertices, np.float32), faces, cull_back=True)
        mask = raster.face_id >= 0
        corners, weights = faces[raster.face_id[mask]], raster.barycentric[mask]
        place = np.einsum("nkc,nk->nc", vertices[corners], weights)
        normal = np.einsum("nkc,nk->nc", vertex_normals(vertices, faces)[corners], weights)
        center = np.linalg.inv(camera.cam_from_world)[:3, 3]
        sight = (center - place) / np.linalg.norm(center - place, axis=1, keepdims=True)
        cosine = np.maximum((normal * sight).sum(axis=1), LEAST_COSINE)
        sigma = np.zeros(mask.shape)
        sigma[mask] = np.einsum("nk,nk->n", self.sigma_mm[corners], weights) / cosine
        return CompletedDepth(depth_mm=raster.depth_mm, sigma_mm=sigma, mask=mask)


@runtime_checkable
class Completion(Protocol):
    """A way to complete a partial scan."""

    def __call__(self, partial: PartialScan) -> CompletedHead:
        """The whole head of a partial scan."""
        ...
