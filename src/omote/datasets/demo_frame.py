"""The frame of the demo: a made-up person, seen by a simulated depth camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omote.types import Rgbd

DEMO_SIZE_PX = 480


def made_up_frame(seed: int) -> Rgbd:
    """Take one frame of a person who was never born with a simulated depth camera.

    Args:
        seed: which person.
    """
    from omote.datasets.population import PopulationConfig, draw_person, render_person
    from omote.geometry.camera import orbit_camera
    from omote.rendering.sensor import draw_sensor, sense

    config = PopulationConfig(seed=seed, split="test", size=DEMO_SIZE_PX, num_images=1)
    heads = config.heads()
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
