"""Multi-view shards: registered RGB-D views from every camera of a rig, with ground-truth geometry in correspondence.

The ground truth is stored as the head's pose and coefficients of the person's own head model, a few hundred numbers, instead
of vertices. Depth is int16 in hundredths of a millimetre, relative to the camera's distance to the head's centre, as in
`omote.datasets.cache`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation

from omote.datasets.cache import DEPTH_UNIT_MM, PersonArrays, check_arrays, shard_folders
from omote.datasets.population import PopulationConfig, draw_person
from omote.errors import ConfigError
from omote.geometry.camera import FRONT_TARGET_MM
from omote.geometry.rig import Rig
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.head.model import HeadModel
from omote.rendering.appearance import paint
from omote.rendering.rgbd import render_head
from omote.types import Camera

# Separate random stream for the poses, so that a person's appearance does not depend on the pose.
POSE_STREAM = 23


@dataclass(frozen=True, kw_only=True)
class ViewShard(PersonArrays):
    """A shard of P persons × K faces × V views of s × s pixels.

    Attributes:
        rgb: colours of the views, scaled to [0, 255].
        depth: depth relative to the rig's distance, in units of `DEPTH_UNIT_MM`.
        mask: head mask, 1 on the head.
        arkit: ARKit weights of each face.
        category: index of each face's category in `CATEGORIES`.
        intensity: intensity of each face's expression, in [0, 1].
        person: index of the person in its population.
        head: index of the person's own head model in the population's list.
        identity: identity coefficients of that head model in σ, zero-padded beyond its modes.
        pose: rigid transform rig_from_canonical of each face, in mm.
        cam_from_world: poses of the rig's cameras, in mm.
        intrinsics: intrinsics of the rig's cameras, in pixels.
    """

    rgb: UInt8[np.ndarray, "p k v s s 3"]
    depth: Int[np.ndarray, "p k v s s"]
    mask: UInt8[np.ndarray, "p k v s s"]
    arkit: Float[np.ndarray, "p k 52"]
    category: Int[np.ndarray, "p k"]
    intensity: Float[np.ndarray, "p k"]
    person: Int[np.ndarray, "p"]
    head: Int[np.ndarray, "p"]
    identity: Float[np.ndarray, "p i"]
    pose: Float[np.ndarray, "p k 4 4"]
    cam_from_world: Float[np.ndarray, "p v 4 4"]
    intrinsics: Float[np.ndarray, "p v 3 3"]

    @property
    def num_images(self) -> int:
        """Number of faces per person (K)."""
        return self.rgb.shape[1]

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The rig's cameras, the same for every person."""
        size = self.rgb.shape[3]
        return tuple(
            Camera(intrinsics=np.array(k, np.float64), cam_from_world=np.array(m, np.float64), width=size, height=size)
            for k, m in zip(self.intrinsics[0], self.cam_from_world[0], strict=True)
        )

    @property
    def rig(self) -> Rig:
        """The rig formed by `cameras`."""
        cameras = self.cameras
        centres = np.stack([-c.cam_from_world[:3, :3].T @ c.cam_from_world[:3, 3] for c in cameras]) - FRONT_TARGET_MM
        distance = np.linalg.norm(centres, axis=1)
        yaw = np.degrees(np.arctan2(centres[:, 0], centres[:, 2]))
        pitch = np.degrees(np.arcsin(np.clip(centres[:, 1] / distance, -1, 1)))
        field = cameras[0].width * distance[0] / cameras[0].intrinsics[0, 0]
        # Rounding removes the double-precision error of the camera matrices, half of a hundred-millionth.
        return Rig(
            yaw_deg=tuple(np.round(yaw, 6).tolist()),
            pitch_deg=tuple(np.round(pitch, 6).tolist()),
            distance_mm=round(float(distance[0]), 6),
            field_mm=round(float(field), 6),
        )

    @classmethod
    def checked(cls, arrays: Mapping[str, np.ndarray]) -> ViewShard:
        """See `PersonArrays.checked`."""
        persons, images, views, size = arrays["rgb"].shape[:4]
        check_arrays(arrays, empty_views(persons, images, views, size, arrays["identity"].shape[-1]))
        return cls(**arrays)


def holds_views(population: Path) -> bool:
    """Whether a population's shards hold views, rather than single images.

    Raises:
        DatasetError: the folder has no complete shard.
    """
    return (shard_folders(population)[0] / "cam_from_world.npy").exists()


def empty_views(
    num_persons: int, num_images: int, num_views: int, size: int, num_identity: int
) -> dict[str, np.ndarray]:
    """Empty arrays for a multi-view shard."""
    p, k, v = num_persons, num_images, num_views
    return {
        "rgb": np.zeros((p, k, v, size, size, 3), np.uint8),
        "depth": np.zeros((p, k, v, size, size), np.int16),
        "mask": np.zeros((p, k, v, size, size), np.uint8),
        "arkit": np.zeros((p, k, len(ARKIT_NAMES)), np.float32),
        "category": np.zeros((p, k), np.int64),
        "intensity": np.zeros((p, k), np.float32),
        "person": np.zeros(p, np.int64),
        "head": np.zeros(p, np.int64),
        "identity": np.zeros((p, num_identity), np.float32),
        "pose": np.tile(np.eye(4, dtype=np.float32), (p, k, 1, 1)),
        "cam_from_world": np.tile(np.eye(4), (p, v, 1, 1)),
        "intrinsics": np.tile(np.eye(3), (p, v, 1, 1)),
    }


def draw_pose(
    rng: np.random.Generator, most_deg: float, most_mm: float, *, exactly: bool = False
) -> Float[np.ndarray, "4 4"]:
    """Draw a rigid motion about the head's centre; small motions are more frequent, as in alignment errors.

    Args:
        rng: random generator.
        most_deg: largest rotation angle, in degrees.
        most_mm: largest translation of the centre, in mm.
        exactly: whether to always use the largest angle and translation, and draw only their directions.
    """
    axes = rng.standard_normal((2, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    share = np.ones(2) if exactly else rng.random() * rng.random(2)
    degrees, shift = np.array([most_deg, most_mm]) * share
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * axes[0]).as_matrix()
    out[:3, 3] = FRONT_TARGET_MM - out[:3, :3] @ FRONT_TARGET_MM + shift * axes[1]
    return out


def render_views(
    config: PopulationConfig, indices: Sequence[int], heads: Sequence[HeadModel], *, exact_pose: bool = False
) -> dict[str, np.ndarray]:
    """Render persons from every camera of the population's rig into the arrays of a `ViewShard`.

    Args:
        config: configuration of the population.
        indices: indices of the persons.
        heads: head models of the population.
        exact_pose: whether every head gets the population's largest pose error, for measurements.

    Raises:
        ConfigError: the population has no rig.
    """
    if config.rig is None:
        raise ConfigError("population: expected a rig, got none; make the population with --views")
    rig: Rig = config.rig

    cameras = rig.cameras(config.size)
    modes = max(head.num_identity for head in heads)
    arrays = empty_views(len(indices), config.num_images, rig.num_views, config.size, modes)
    arrays["cam_from_world"][:] = [camera.cam_from_world for camera in cameras]
    arrays["intrinsics"][:] = [camera.intrinsics for camera in cameras]

    for row, index in enumerate(indices):
        person = draw_person(config, index, heads)
        head = heads[person.head]
        albedo = paint(head, person.appearance)
        arrays["person"][row], arrays["head"][row] = index, person.head
        arrays["identity"][row, : len(person.identity)] = person.identity
        rng = np.random.default_rng([POSE_STREAM, config.seed, index])
        for k, expression in enumerate(person.expressions):
            pose = draw_pose(rng, config.pose_deg, config.pose_mm, exactly=exact_pose)
            vertices = head.vertices(person.identity, expression.arkit) @ pose[:3, :3].T + pose[:3, 3]
            arrays["pose"][row, k] = pose
            arrays["arkit"][row, k] = expression.arkit
            arrays["category"][row, k] = CATEGORIES.index(expression.category)
            arrays["intensity"][row, k] = expression.intensity
            for v, camera in enumerate(cameras):
                image = render_head(
                    head, vertices, camera, albedo=albedo, appearance=person.appearance, light=person.light
                )
                relative = np.where(image.mask, image.depth_mm - rig.distance_mm, 0) / DEPTH_UNIT_MM
                arrays["rgb"][row, k, v] = np.round(image.rgb * 255)
                arrays["depth"][row, k, v] = np.round(np.clip(relative, -32767, 32767))
                arrays["mask"][row, k, v] = image.mask
    return arrays
