"""Procedural eyeballs: one clean, textured eyeball mesh that both head models share.

The eyes of scanned and sculpted heads cannot be used as they are (an iris behind a transparent cornea in ICT-FaceKit,
72-vertex blobs in MakeHuman), so both models get this eyeball: a sphere with a corneal bulge whose UVs are
azimuthal-equidistant about the gaze axis, so that one small texture holds iris, pupil and sclera undistorted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

# Anatomy (Bekerman et al. 2014; the visible iris is 11.7 mm wide on a 24 mm ball): angles about the gaze axis.
IRIS_ANGLE_RAD = 0.50
CORNEA_BULGE = 0.045  # height of the bulge at the pole, as a fraction of the radius
# Rotation of the gaze at an eyeLook weight of 1, similar to that of ARKit rigs.
LOOK_SIDE_RAD = 0.48
LOOK_UP_RAD = 0.36
LOOK_DOWN_RAD = 0.42

NUM_RINGS, NUM_SECTORS = 14, 24


def eyeball() -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Float[np.ndarray, "v 2"]]:
    """A unit eyeball looking along +z: (vertices, faces, uv).

    ``uv = (.5, .5) + θ/π (cos φ, sin φ)`` for angle θ from the gaze axis, so the front hemisphere fills the unit disc's
    inner circle of radius .5; θ ends at 125°, behind the part that is visible between the lids.
    """
    # Rings are denser over the iris, where the silhouette and the highlight are visible.
    theta = np.deg2rad(125.0) * np.linspace(0, 1, NUM_RINGS + 1)[1:] ** 1.25
    phi = np.linspace(0, 2 * np.pi, NUM_SECTORS, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    bulge = 1 + CORNEA_BULGE * np.clip(1 - (t / (1.15 * IRIS_ANGLE_RAD)) ** 2, 0, None)
    ring = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], axis=-1) * bulge[..., None]
    vertices = np.concatenate([[[0, 0, 1 + CORNEA_BULGE]], ring.reshape(-1, 3)])
    uv = np.concatenate(
        [
            [[0.5, 0.5]],
            0.5 + (t / np.pi)[..., None].reshape(-1, 1) * np.stack([np.cos(p), np.sin(p)], -1).reshape(-1, 2),
        ]
    )
    ids = 1 + np.arange(NUM_RINGS * NUM_SECTORS).reshape(NUM_RINGS, NUM_SECTORS)
    nxt = np.roll(ids, -1, axis=1)
    cap = np.stack([np.zeros(NUM_SECTORS, int), ids[0], nxt[0]], axis=1)
    a, b, c, d = ids[:-1].ravel(), nxt[:-1].ravel(), nxt[1:].ravel(), ids[1:].ravel()
    faces = np.concatenate([cap, np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    return vertices.astype(np.float32), faces.astype(np.int32), uv.astype(np.float32)


def look_deltas(
    vertices_mm: Float[np.ndarray, "v 3"], center_mm: Float[np.ndarray, "3"], *, left: bool
) -> dict[str, Float[np.ndarray, "v 3"]]:
    """Linear offsets (mm) of one eyeball's vertices for its four eyeLook units at weight 1.

    Args:
        vertices_mm: vertices of the eyeball at rest.
        center_mm: centre of the eyeball.
        left: True for the person's left eye (at +x), for which "in" is towards -x.
    """
    side = "Left" if left else "Right"
    outward = 1.0 if left else -1.0
    local = vertices_mm - center_mm

    def turned(yaw_rad: float, pitch_rad: float) -> Float[np.ndarray, "v 3"]:
        cy, sy, cp, sp = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(pitch_rad), np.sin(pitch_rad)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        return (local @ (yaw @ pitch).T - local).astype(np.float32)

    return {
        f"eyeLookOut{side}": turned(outward * LOOK_SIDE_RAD, 0.0),
        f"eyeLookIn{side}": turned(-outward * LOOK_SIDE_RAD, 0.0),
        f"eyeLookUp{side}": turned(0.0, -LOOK_UP_RAD),
        f"eyeLookDown{side}": turned(0.0, LOOK_DOWN_RAD),
    }
