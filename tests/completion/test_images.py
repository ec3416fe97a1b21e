"""Completion of the face in one RGB-D image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omote.completion.base import CompletedHead, PartialScan
from omote.completion.images import CompletedFaces
from omote.geometry.camera import orbit_camera
from omote.head.fit import eyeball_centers
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.rendering.rgbd import render_head

HEAD = shipped_head()
# The frame of the image is not the canonical one.
SHIFT = np.array([5.0, -3.0, 40.0], np.float32)


class Forward:
    """Moves every vertex 2 mm forward, and keeps what it was given."""

    given: PartialScan

    def __call__(self, partial: PartialScan) -> CompletedHead:
        self.given = partial
        count = len(partial.fitted_mm)
        moved = partial.fitted_mm + np.array([0.0, 0.0, 2.0])
        return CompletedHead(vertices_mm=moved, sigma_mm=np.full(count, 0.5), seen=np.zeros(count, bool))


def test_a_face_is_completed_in_its_own_frame() -> None:
    vertices, camera = HEAD.template_mm + SHIFT, orbit_camera(size=128, target_mm=SHIFT.astype(float))
    image = render_head(HEAD, vertices, camera)
    face = RestFace(head=HEAD, vertices_mm=vertices, camera=camera)
    found = CompletedFaces(forward := Forward())(image, face)
    np.testing.assert_allclose(found.vertices_mm - vertices, np.tile([0, 0, 2.0], (len(vertices), 1)), atol=1e-4)
    assert found.sigma_mm is not None
    assert (found.sigma_mm == 0.5).all()
    # The completion sees the canonical frame, whose origin lies between the eyeballs, and normals that face the camera.
    assert np.abs(eyeball_centers(HEAD, forward.given.fitted_mm).mean(axis=0)).max() < 1e-3
    assert (forward.given.normals[:, 2] > 0).mean() > 0.95
    assert len(forward.given.points_mm) > 2000


def test_an_image_of_almost_nothing_leaves_the_face() -> None:
    camera = orbit_camera(size=128)
    image = render_head(HEAD, HEAD.template_mm, camera)
    face = RestFace(head=HEAD, vertices_mm=HEAD.template_mm, camera=camera)
    few = np.zeros_like(image.mask)
    few[60, 60:65] = True
    assert CompletedFaces(Forward())(replace(image, mask=image.mask & few), face) is face
