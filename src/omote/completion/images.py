"""Completion of the face that was fitted to one RGB-D image, with which a depth camera's faults in it are undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omote.completion.aligned import NEIGHBORS, near_head
from omote.completion.base import Completion
from omote.geometry.camera import resize, rgbd_points
from omote.geometry.cloud import estimate_normals
from omote.head.fit import eyeball_centers
from omote.head.rest_face import RestFace
from omote.types import Rgbd


class CompletedFaces:
    """A completion of faces in images: ``complete`` of `omote.rgbd.model.EditingModel`.

    Args:
        completion: completion for the head model of the faces.
    """

    def __init__(self, completion: Completion) -> None:
        self.completion = completion

    def __call__(self, image: Rgbd, face: RestFace) -> RestFace:
        """The face with its vertices completed and their standard deviation; as it is where too little was measured.

        Args:
            image: image with its holes open.
            face: head fitted to the image, in a camera with the same view.
        """
        camera = resize(face.camera, width=image.camera.width, height=image.camera.height)
        fitted = face.vertices_mm.astype(np.float64)
        center = eyeball_centers(face.head, fitted).mean(axis=0)
        points, colors = rgbd_points(replace(image, camera=camera))
        if len(points) < NEIGHBORS:
            return face
        points = points - center
        normals = estimate_normals(points, neighbors=NEIGHBORS)
        partial = near_head(face.head, fitted - center, points, normals, colors)
        whole = self.completion(partial)
        return replace(
            face,
            vertices_mm=(whole.vertices_mm + center).astype(np.float32),
            sigma_mm=whole.sigma_mm.astype(np.float32),
        )
