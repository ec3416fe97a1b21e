"""Errors of the poses of frames of one head, and the parts of a head that more frames show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

# The middle of a head, in the canonical frame and nearly so in a person's own.
HEAD_MM = np.array([0.0, -30.0, -60.0])
# The profile: a strip along the middle plane, in front of this depth: from the crown over nose and chin to the
# throat, which ends this far below the chin.
PROFILE_MM, PROFILE_BACK_MM, THROAT_MM = 4.0, -80.0, 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PoseErrors:
    """Errors of found poses, up to a rigid motion of all.

    Attributes:
        canonical_from_world: that motion, the mean over the frames.
        degrees: error of each frame's rotation.
        mm: error of each frame at the middle of the head.
    """

    canonical_from_world: Float[np.ndarray, "4 4"]
    degrees: Float[np.ndarray, " n"]
    mm: Float[np.ndarray, " n"]


def pose_errors(
    canonical_from_camera: Mapping[str, Float[np.ndarray, "4 4"]],
    cam_from_world: Mapping[str, Float[np.ndarray, "4 4"]],
) -> PoseErrors:
    """Compare found poses with the true ones.

    Args:
        canonical_from_camera: found pose of each frame, mm, in any one frame of coordinates.
        cam_from_world: true poses of at least these frames, mm; the world is nearly the canonical frame.
    """
    motions = np.stack([pose @ cam_from_world[name] for name, pose in canonical_from_camera.items()])
    mean = Rotation.from_matrix(motions[:, :3, :3]).mean()
    places = motions[:, :3, :3] @ HEAD_MM + motions[:, :3, 3]
    together = np.eye(4)
    together[:3, :3] = mean.as_matrix()
    together[:3, 3] = places.mean(axis=0) - together[:3, :3] @ HEAD_MM
    angles = (mean.inv() * Rotation.from_matrix(motions[:, :3, :3])).magnitude()
    return PoseErrors(
        canonical_from_world=together,
        degrees=np.rad2deg(angles),
        mm=np.linalg.norm(places - places.mean(axis=0), axis=1),
    )


@once_per_head
def head_parts(head: HeadModel) -> dict[str, Bool[np.ndarray, " v"]]:
    """Vertices of a head's parts, as far as cameras in front can see them, by the names of the catalogue's ``turn/`` metrics."""
    region, template = head_region(head), head.template_mm
    middle = (np.abs(template[:, 0]) < PROFILE_MM) & (template[:, 2] > PROFILE_BACK_MM)
    chin = head.landmarks(template.astype(np.float64))[8, 1]
    return {
        "ears": region.ear,
        "profile": region.exterior & middle & (template[:, 1] > chin - THROAT_MM),
        "face": region.face,
        "head": (region.exterior | region.ear) & (template[:, 1] > chin),
    }
