"""Pinhole projection and its inverse, and the standard camera in front of a canonical head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from omote.types import Camera, Rgbd

# The standard camera looks at a point a little below the eyes, so that hairline and an open jaw both stay in frame.
FRONT_TARGET_MM = np.array([0.0, -28.0, 0.0])
FRONT_DISTANCE_MM = 700.0
FRONT_FIELD_MM = 232.0  # width seen at the target's depth


def look_at(
    *, eye_mm: Float[np.ndarray, "3"], target_mm: Float[np.ndarray, "3"], up: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    """Rigid cam_from_world of an OpenCV camera at ``eye_mm`` that looks at ``target_mm``."""
    z = target_mm - eye_mm
    z = z / np.linalg.norm(z)
    x = np.cross(z, up)
    x = x / np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = -rotation @ eye_mm
    return out


def orbit_camera(
    *,
    size: int,
    yaw_rad: float = 0.0,
    pitch_rad: float = 0.0,
    roll_rad: float = 0.0,
    distance_mm: float = FRONT_DISTANCE_MM,
    field_mm: float = FRONT_FIELD_MM,
    target_mm: Float[np.ndarray, "3"] = FRONT_TARGET_MM,
) -> Camera:
    """A square camera on a sphere around a canonical head.

    Args:
        size: width = height in pixels.
        yaw_rad: positive moves the camera to the person's left (+x).
        pitch_rad: positive moves the camera up (+y).
        roll_rad: positive turns the image counter-clockwise.
        distance_mm: distance from the target point.
        field_mm: width seen at the target's depth; sets the focal length.
        target_mm: the point looked at, canonical frame.
    """
    direction = np.array([np.sin(yaw_rad) * np.cos(pitch_rad), np.sin(pitch_rad), np.cos(yaw_rad) * np.cos(pitch_rad)])
    cam_from_world = look_at(
        eye_mm=target_mm + distance_mm * direction, target_mm=target_mm, up=np.array([0.0, 1.0, 0.0])
    )
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    cam_from_world[:3] = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) @ cam_from_world[:3]
    focal_px = size * distance_mm / field_mm
    intrinsics = np.array([[focal_px, 0.0, size / 2], [0.0, focal_px, size / 2], [0.0, 0.0, 1.0]])
    return Camera(intrinsics=intrinsics, cam_from_world=cam_from_world, width=size, height=size)


def transform(matrix: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Apply a homogeneous transform to points."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def project(camera: Camera, points_mm: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """World points (mm) → (u px, v px, z-depth mm)."""
    cam = transform(camera.cam_from_world, points_mm)
    uv = cam @ camera.intrinsics.T
    return np.concatenate([uv[:, :2] / uv[:, 2:3], cam[:, 2:3]], axis=1)


def unproject(camera: Camera, uvz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """(u px, v px, z-depth mm) → world points (mm); the inverse of `project`."""
    z = uvz[:, 2]
    fx, fy = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
    cx, cy, skew = camera.intrinsics[0, 2], camera.intrinsics[1, 2], camera.intrinsics[0, 1]
    y = (uvz[:, 1] - cy) / fy
    x = (uvz[:, 0] - cx - skew * y) / fx
    return transform(np.linalg.inv(camera.cam_from_world), np.stack([x * z, y * z, z], axis=1))


def pixel_grid(camera: Camera) -> Float[np.ndarray, "pixels 2"]:
    """Pixel centres (u, v) of every pixel, row by row."""
    v, u = np.mgrid[: camera.height, : camera.width]
    return np.stack([u.ravel() + 0.5, v.ravel() + 0.5], axis=1)


def rgbd_points(rgbd: Rgbd) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """World points (mm) and colours of an RGB-D image's valid pixels, row by row."""
    valid = rgbd.mask.ravel()
    uvz = np.concatenate([pixel_grid(rgbd.camera)[valid], rgbd.depth_mm.reshape(-1, 1)[valid]], axis=1)
    return unproject(rgbd.camera, uvz), rgbd.rgb.reshape(-1, 3)[valid]


def resize(camera: Camera, *, width: int, height: int) -> Camera:
    """The same camera with another pixel count."""
    scale = np.diag([width / camera.width, height / camera.height, 1.0])
    return replace(camera, intrinsics=scale @ camera.intrinsics, width=width, height=height)
