"""Where things are on a head model: per-vertex masks from its landmarks, computed once per model and kept.

Everything is placed by the template's own 68 landmarks, so the same appearance lands on the same places of every model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.geometry.camera import orbit_camera
from omote.head.model import PARTS, HeadModel, once_per_head
from omote.rendering.zbuffer import fill, to_screen

OCCLUSION_DIRECTIONS = 72


@once_per_head
def template_occlusion(head_model: HeadModel) -> Float[np.ndarray, "v"]:
    """Ambient visibility of the template's vertices, 1 open to 0 hidden, cosine-weighted.

    Depth images from many sides stand in for rays: a vertex is visible from a side if nothing lies before it.
    """
    vertices = head_model.template_mm.astype(np.float32)
    faces = np.ascontiguousarray(head_model.faces, np.int32)

    # Vertices hidden by the closed lids of a mouth get their light from `HeadShading.dim`, not from here.
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    normal = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normal, faces[:, k], np.cross(b - a, c - a))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)

    size = 320
    index = np.arange(OCCLUSION_DIRECTIONS) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / OCCLUSION_DIRECTIONS), np.pi * (1 + 5**0.5) * index
    center = (vertices.max(0) + vertices.min(0)) / 2
    span = float(np.linalg.norm(vertices.max(0) - vertices.min(0)))

    seen = np.zeros(len(vertices))
    total = np.full(len(vertices), 1e-6)
    for p, q in zip(polar, azimuth, strict=True):
        camera = orbit_camera(
            size=size, yaw_rad=float(q), pitch_rad=float(np.pi / 2 - p) * 0.999, distance_mm=20 * span,
            field_mm=span, target_mm=center,
        )  # fmt: skip
        direction = -camera.cam_from_world[2, :3]
        screen = to_screen(camera, vertices)
        u = np.clip((screen[:, 0] / screen[:, 2]).astype(int), 0, size - 1)
        v = np.clip((screen[:, 1] / screen[:, 2]).astype(int), 0, size - 1)
        cosine = np.clip(normal @ direction, 0, None)
        near = fill(screen, faces, size, size).depth_mm[v, u]
        # A slanted surface changes depth within a pixel: the tolerance grows with the slant.
        slack = 1.0 + 2.5 * (span / size) / np.maximum(cosine, 0.15)
        seen += cosine * ((near == 0) | (screen[:, 2] < near + slack))
        total += cosine
    return (seen / total).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class HeadShading:
    """What `render_head` needs of a head model besides its colour.

    Attributes:
        faces: contiguous int32.
        occlusion: ambient visibility of the template.
        gloss: factor on the light's gloss per vertex.
        inner: vertex ids of the mouth's inside: teeth, tongue, cavity.
        eyeballs: vertex ids of both eyeballs.
    """

    faces: Int[np.ndarray, "f 3"]
    occlusion: Float[np.ndarray, "v"]
    gloss: Float[np.ndarray, "v"]
    inner: Int[np.ndarray, "n"]
    eyeballs: Int[np.ndarray, "m"]

    def dim(
        self, vertices_mm: Float[np.ndarray, "v 3"], landmarks_mm: Float[np.ndarray, "68 3"]
    ) -> Float[np.ndarray, "v"]:
        """Ambient visibility for a posed face: the template's, with the mouth's inside darkening behind the lips."""
        out = self.occlusion.copy()
        inner = vertices_mm[self.inner]
        lips_z = float(landmarks_mm[[60, 62, 64, 66], 2].mean())
        behind = np.clip(lips_z + 2.0 - inner[:, 2], 0, None)
        gap = float(np.linalg.norm(landmarks_mm[62] - landmarks_mm[66]))
        out[self.inner] = np.exp(-behind / (7.0 + 0.35 * gap))
        return out


@once_per_head
def head_shading(head_model: HeadModel) -> HeadShading:
    """A head model's `HeadShading`."""
    gloss = np.zeros(head_model.num_vertices, np.float32)
    for part, value in {"mouth": 0.3, "tongue": 1.2, "skin": 1.0, "teeth_upper": 1.6, "teeth_lower": 1.6}.items():
        gloss[head_model.part_vertices(part)] = value
    inner = np.setdiff1d(
        head_model.part_vertices("teeth_upper", "teeth_lower", "tongue", "mouth"),
        head_model.part_vertices("skin"),
    )
    occlusion = template_occlusion(head_model).copy()
    eyes = head_model.part_vertices("eye_left", "eye_right")
    gloss[eyes] = 0.0
    occlusion[eyes] = 0.85
    faces = np.ascontiguousarray(head_model.faces, np.int32)
    return HeadShading(faces=faces, occlusion=occlusion, gloss=gloss, inner=inner, eyeballs=eyes)


def part_mask(head_model: HeadModel, *parts: str) -> Float[np.ndarray, "v"]:
    """1 on the vertices of the named parts."""
    assert all(p in PARTS for p in parts)
    out = np.zeros(head_model.num_vertices, np.float32)
    out[head_model.part_vertices(*parts)] = 1.0
    return out
