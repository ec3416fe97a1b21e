"""Baselines without networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from omote.geometry.camera import project, rgbd_points
from omote.head.fit import fit_head
from omote.head.model import HeadModel
from omote.head.nicp import refine
from omote.rendering.scans import render_mesh
from omote.types import Camera, Expression, Mesh, Rgbd


@dataclass(frozen=True, kw_only=True)
class FoundSurface:
    """A head fitted to a source, refined onto it, and set back to rest.

    Attributes:
        neutral_mm: vertices at rest, in the frame of the source's camera.
        colors: colours per vertex, seen in the source.
        camera: camera of the source.
    """

    neutral_mm: Float[np.ndarray, "v 3"]
    colors: Float[np.ndarray, "v 3"]
    camera: Camera


class SurfaceEdit(ABC):
    """An edit without networks: the head is fitted to the source, deformed, and rendered with the source's colours.

    It is given the true landmarks and the true ARKit weights, which favours it.
    """

    def __init__(self, model: HeadModel) -> None:
        self.model = model

    @abstractmethod
    def deformed(
        self, neutral_mm: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "n 52"]
    ) -> Float[np.ndarray, "n v 3"]:
        """The deformed surface per expression.

        Args:
            neutral_mm: vertices of the person at rest, in correspondence.
            weights: ARKit weights.
        """

    def __call__(
        self, source: Rgbd, landmarks_mm: Float[np.ndarray, "68 3"], expressions: Sequence[Expression]
    ) -> list[Rgbd]:
        """Edited images, seen by the source's camera.

        Args:
            source: image of the person at rest.
            landmarks_mm: true landmarks of the source, in the canonical frame.
            expressions: expressions with ARKit weights.
        """
        return self.edit(self.find(source, landmarks_mm), expressions)

    def find(self, source: Rgbd, landmarks_mm: Float[np.ndarray, "68 3"]) -> FoundSurface:
        """The head fitted to the source, which edits with the same model may share."""
        points, _ = rgbd_points(source)
        fit = fit_head(self.model, points, landmarks=landmarks_mm, fixed_scale=1.0)
        back = np.linalg.inv(fit.canonical_from_scan)
        fitted = fit.vertices_mm @ back[:3, :3].T + back[:3, 3]
        refined, _ = refine(self.model, fitted, points)
        # The wanted weights include the source's own expression, so only their difference is added.
        neutral = refined - np.tensordot(fit.expression, self.model.expression_mm, 1)
        return FoundSurface(neutral_mm=neutral, colors=self._colors(source, refined), camera=source.camera)

    def edit(self, surface: FoundSurface, expressions: Sequence[Expression]) -> list[Rgbd]:
        """Edited images of a source with a fitted head."""
        weights = []
        for expression in expressions:
            assert expression.arkit is not None
            weights.append(expression.arkit)
        return [
            render_mesh(Mesh(vertices=vertices, faces=self.model.faces), surface.camera, vertex_colors=surface.colors)
            for vertices in self.deformed(surface.neutral_mm, np.stack(weights))
        ]

    def _colors(self, source: Rgbd, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
        """Colours per vertex: the source's image at each vertex, and plain colours for inner parts."""
        uvz = project(source.camera, vertices_mm)
        # The head's colours are extended over its border, so that silhouettes do not take the background's grey.
        _, nearest = ndimage.distance_transform_edt(~source.mask, return_indices=True)
        grown = source.rgb[nearest[0], nearest[1]]
        colors = np.stack(
            [
                ndimage.map_coordinates(grown[..., k], [uvz[:, 1] - 0.5, uvz[:, 0] - 0.5], order=1, mode="nearest")
                for k in range(3)
            ],
            axis=1,
        )
        for parts, color in (
            (("teeth_upper", "teeth_lower"), (0.80, 0.77, 0.70)),
            (("tongue",), (0.55, 0.30, 0.29)),
        ):
            colors[self.model.part_vertices(*parts)] = color
        inner = np.setdiff1d(self.model.part_vertices("mouth"), self.model.part_vertices("skin"))
        colors[inner] = (0.25, 0.10, 0.10)
        return colors.astype(np.float32)


class HeadEdit(SurfaceEdit):
    """The 3DMM edit: the head model's blendshapes are added.

    For persons of its own head model, the ground truth is of exactly the same form.
    """

    def deformed(
        self, neutral_mm: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "n 52"]
    ) -> Float[np.ndarray, "n v 3"]:
        """The surface per expression."""
        return neutral_mm + np.tensordot(weights, self.model.expression_mm, 1)
