"""The demo's RGB-D frame: a synthetic person captured by a simulated depth camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omote.head.model import HeadModel
from omote.types import Rgbd

DEMO_SIZE_PX = 480


def sensed_frame(seed: int, head: HeadModel) -> Rgbd:
    """One RGB-D frame of a synthetic person, captured by a simulated depth camera.

    Args:
        seed: random seed of the person and the camera.
        head: head model from which the person is drawn.
    """
    from omote.datasets.population import PopulationConfig, draw_person, render_person
    from omote.geometry.camera import orbit_camera
    from omote.rendering.sensor import draw_sensor, sense

    config = PopulationConfig(seed=seed, split="test", size=DEMO_SIZE_PX, num_images=1)
    heads = [head]
    rng = np.random.default_rng([seed, 1])
    camera = orbit_camera(
        size=DEMO_SIZE_PX,
        yaw_rad=float(rng.normal(0, 0.05)),
        pitch_rad=float(rng.normal(0, 0.05)),
        distance_mm=600.0,
        field_mm=330.0,
    )
    person = replace(draw_person(config, 0, heads), camera=camera)
    image, _, _ = next(iter(render_person(person, heads)))
    return sense(image, draw_sensor(rng), rng)
