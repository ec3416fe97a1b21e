"""Rivals without diffusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from omote.geometry.camera import project, rgbd_points
from omote.head.fit import fit_head
from omote.head.model import HeadModel
from omote.head.nicp import refine
from omote.render.scans import render_mesh
from omote.types import Expression, Mesh, Rgbd


class HeadEdit:
    """The 3DMM edit: fit the head to the source, add blendshapes, render with the source's colours.

    It is given the true landmarks and the true ARKit weights, which favours it: on persons of its own head model the
    rendered truth is exactly of its kind.
    """

    def __init__(self, model: HeadModel) -> None:
        self.model = model

    def __call__(
        self, source: Rgbd, landmarks_mm: Float[np.ndarray, "68 3"], expressions: Sequence[Expression]
    ) -> list[Rgbd]:
        """Edited images in the source's camera.

        Args:
            source: the person at rest.
            landmarks_mm: the source's true landmarks, canonical frame.
            expressions: with ARKit weights.
        """
        model = self.model
        points, _ = rgbd_points(source)
        fit = fit_head(model, points, landmarks=landmarks_mm, fixed_scale=1.0)
        back = np.linalg.inv(fit.canonical_from_scan)
        fitted = fit.vertices_mm @ back[:3, :3].T + back[:3, 3]
        neutral = fitted - np.tensordot(fit.expression, model.expression_mm, 1)
        refined, _ = refine(model, fitted, points)
        neutral = neutral + (refined - fitted)
        colors = self._colors(source, refined)
        images = []
        for expression in expressions:
            assert expression.arkit is not None
            # The source's own resting weights are part of the truth's weights: add what is new.
            vertices = neutral + np.tensordot(expression.arkit, model.expression_mm, 1)
            mesh = Mesh(vertices=vertices, faces=model.faces)
            images.append(render_mesh(mesh, source.camera, vertex_colors=colors))
        return images

    def _colors(self, source: Rgbd, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
        """Per-vertex colours from the source: its image at each vertex, inner parts plain."""
        uvz = project(source.camera, vertices_mm)
        # Grow the head's colours over its border, so that silhouettes do not take the background's grey.
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
