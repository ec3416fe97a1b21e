"""Rigs: cameras around the canonical head, and their encodings for networks.

A camera reaches a network as its flattened ``cam_from_world`` with the translation in units of the rig's distance (Shi et al.,
"MVDream", ICLR 2024, §3.2), or as Plücker rays, a direction and a moment for each pixel (Sitzmann et al., "Light Field
Networks", NeurIPS 2021, §3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from omote.config import Range
from omote.errors import ConfigError
from omote.geometry.camera import FRONT_DISTANCE_MM, FRONT_FIELD_MM, FRONT_TARGET_MM, orbit_camera
from omote.types import Camera

NUM_CAMERA, NUM_RAY = 16, 6
# Views of the default rigs, (yaw, pitch) in degrees; a rig of fewer takes the first.
ANGLES = ((0.0, 0.0), (40.0, 0.0), (-40.0, 0.0), (0.0, 25.0), (0.0, -25.0), (75.0, 0.0), (-75.0, 0.0), (0.0, 45.0))


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Square cameras on a sphere around the canonical head, all looking at the same point.

    Attributes:
        yaw_deg: yaw of each view; positive is on the person's left.
        pitch_deg: pitch of each view; positive is from above.
        distance_mm: distance from the point looked at.
        field_mm: width seen at that point's depth.
    """

    yaw_deg: tuple[float, ...] = tuple(yaw for yaw, _ in ANGLES[:5])
    pitch_deg: tuple[float, ...] = tuple(pitch for _, pitch in ANGLES[:5])
    distance_mm: Annotated[float, Range(200, 5000)] = FRONT_DISTANCE_MM
    field_mm: Annotated[float, Range(50, 1000)] = FRONT_FIELD_MM

    def __post_init__(self) -> None:
        """Refuse a rig without a view.

        Raises:
            ValueError: no view, or not a pitch for every yaw.
        """
        if not self.yaw_deg or len(self.yaw_deg) != len(self.pitch_deg):
            raise ValueError(
                f"expected as many pitches as yaws, at least one, got {len(self.pitch_deg)} and {len(self.yaw_deg)}"
            )

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.yaw_deg)

    def cameras(self, size: int) -> tuple[Camera, ...]:
        """The cameras, for square images of ``size`` pixels per side."""
        return tuple(
            orbit_camera(
                size=size,
                yaw_rad=np.deg2rad(yaw),
                pitch_rad=np.deg2rad(pitch),
                distance_mm=self.distance_mm,
                field_mm=self.field_mm,
            )
            for yaw, pitch in zip(self.yaw_deg, self.pitch_deg, strict=True)
        )


def rig_of(views: Sequence[str]) -> Rig:
    """Parse a rig from the command line: the number of the default rig's views, or a ``YAW,PITCH`` (degrees) per view.

    Raises:
        ConfigError: the words are neither.
    """
    try:
        if len(views) == 1 and "," not in views[0]:
            if not 1 <= (count := int(views[0])) <= len(ANGLES):
                raise ValueError
            angles = [*ANGLES[:count]]
        else:
            angles = [(float(yaw), float(pitch)) for yaw, pitch in (view.split(",") for view in views)]
        return Rig(yaw_deg=tuple(yaw for yaw, _ in angles), pitch_deg=tuple(pitch for _, pitch in angles))
    except ValueError:
        raise ConfigError(
            f"views: expected 1 to {len(ANGLES)}, or YAW,PITCH in degrees for each view, got {' '.join(views)!r}"
        ) from None


def flattened(cameras: Sequence[Camera]) -> Float[np.ndarray, "v 16"]:
    """``cam_from_world`` of each camera, row by row, with the origin at the head's centre and translations of unit length."""
    out = np.stack([camera.cam_from_world for camera in cameras]).astype(np.float64)
    out[:, :3, 3] += out[:, :3, :3] @ FRONT_TARGET_MM
    out[:, :3, 3] /= np.maximum(np.linalg.norm(out[:, :3, 3], axis=1, keepdims=True), 1e-9)
    return out.reshape(len(out), NUM_CAMERA).astype(np.float32)


def plucker_rays(cameras: Sequence[Camera], size: int) -> Float[np.ndarray, "v 6 s s"]:
    """Unit direction d and moment o × d of the ray through each pixel's centre, o from the head's centre in camera distances.

    Args:
        cameras: square cameras.
        size: side of the maps in pixels, which is coarser than the cameras' images for latents.
    """
    out = np.empty((len(cameras), NUM_RAY, size, size), np.float32)
    for ray, camera in zip(out, cameras, strict=True):
        rotation = camera.cam_from_world[:3, :3]
        centre = -rotation.T @ camera.cam_from_world[:3, 3] - FRONT_TARGET_MM
        pixel = (np.arange(size) + 0.5) * camera.width / size
        u, v = np.meshgrid(pixel, pixel)
        seen = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera.intrinsics).T @ rotation
        direction = seen / np.linalg.norm(seen, axis=-1, keepdims=True)
        moment = np.cross(centre / np.linalg.norm(centre), direction)
        ray[:] = np.concatenate([direction, moment], axis=-1).transpose(2, 0, 1)
    return out
