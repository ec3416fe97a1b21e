"""A person who turns before a depth camera, with the truth: frames from several sides, each with the sensor's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.datasets.population import Person, render_person
from omote.geometry.camera import orbit_camera
from omote.head.model import HeadModel
from omote.rendering.sensor import SensorModel, sense
from omote.types import Expression, Rgbd

# At arm's length, with the whole head in view: 1.3 mm a pixel, between the first Kinect (1.0) and the second (1.6).
SIZE_PX, DISTANCE_MM, FIELD_MM = 320, 600.0, 420.0
TARGET_MM = np.array([0.0, -20.0, -50.0])
# How far hands and head stray from an even turn (standard deviations): yaw, pitch and roll, the distance, the point looked at.
STRAY_DEG, STRAY_SHARE, STRAY_MM = (2.5, 5.0, 2.5), 0.03, 8.0


@dataclass(frozen=True, kw_only=True)
class RenderedTurn:
    """Frames of a turn.

    Attributes:
        frames: sensed frames by name, each in its own camera's axes.
        cam_from_world: true rigid pose of each frame's camera, mm; the world is the person's own frame.
        vertices_mm: vertices of the person in the first frame, in the head model they were drawn from.
    """

    frames: dict[str, Rgbd]
    cam_from_world: dict[str, Float[np.ndarray, "4 4"]]
    vertices_mm: Float[np.ndarray, "v 3"]


def rendered_turn(
    person: Person,
    heads: Sequence[HeadModel],
    yaw_deg: Sequence[float],
    *,
    sensor: SensorModel,
    rng: np.random.Generator,
    size: int = SIZE_PX,
    expressions: Sequence[Expression] | None = None,
) -> RenderedTurn:
    """Render a person from several sides, and sense each frame.

    Args:
        person: the person; the camera is not used.
        heads: head models of the population.
        yaw_deg: yaw of each frame in degrees, in order; cameras stray from it by degrees and millimetres.
        sensor: the depth camera.
        rng: draws the cameras and the noise.
        size: width and height of the frames, pixels.
        expressions: expression of each frame; at rest if None.
    """
    shown = [person.expressions[0]] * len(yaw_deg) if expressions is None else expressions
    frames: dict[str, Rgbd] = {}
    poses: dict[str, Float[np.ndarray, "4 4"]] = {}
    first = np.zeros((0, 3))
    for number, (yaw, expression) in enumerate(zip(yaw_deg, shown, strict=True)):
        turned, raised, rolled = np.deg2rad(np.array([yaw, 0, 0]) + np.array(STRAY_DEG) * rng.standard_normal(3))
        camera = orbit_camera(
            size=size,
            yaw_rad=float(turned),
            pitch_rad=float(raised),
            roll_rad=float(rolled),
            distance_mm=DISTANCE_MM * float(np.exp(STRAY_SHARE * rng.standard_normal())),
            field_mm=FIELD_MM,
            target_mm=TARGET_MM + STRAY_MM * rng.standard_normal(3),
        )
        image, _, vertices = next(render_person(replace(person, camera=camera), heads, [expression]))
        name = f"frame_{number:02d}"
        frames[name] = replace(sense(image, sensor, rng), camera=replace(camera, cam_from_world=np.eye(4)))
        poses[name] = camera.cam_from_world
        if not number:
            first = vertices
    return RenderedTurn(frames=frames, cam_from_world=poses, vertices_mm=first)
