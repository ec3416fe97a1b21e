"""The test sets: who is asked to be edited, and how they were captured. Fixed by name, split and seed.

``in-model``: both head families, at rest, before the standard camera, without noise. ``cross-model``: persons of the second
family alone; a number for networks that were trained on the first (`omote study cross-model` trains some) says what a new kind
of head costs.
``sensor``: the source as a depth camera gives it, with noise, quantisation, lost edges and holes. ``pose``: cameras from -30° to
30° to the side, a seventh of the persons each. ``expressive``: the source shows another expression than rest. What is asked for,
and what an answer is measured against, is the same true render everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from omote.datasets.population import Person, PopulationConfig, draw_person
from omote.errors import ConfigError
from omote.geometry.camera import FRONT_DISTANCE_MM, FRONT_FIELD_MM, orbit_camera
from omote.head.model import HeadModel
from omote.rendering.sensor import draw_sensor, sense
from omote.types import Camera, Rgbd

TestSetName = Literal["in-model", "cross-model", "sensor", "pose", "expressive"]
TEST_SETS: tuple[TestSetName, ...] = get_args(TestSetName)
YAWS_DEG = (-30, -20, -10, 0, 10, 20, 30)
# Streams of noise apart from the population's.
SENSOR_STREAM, SOURCE_STREAM = 61, 67
# Hair, a hand, a reflection: patches without depth.
NUM_HOLES, HOLE_PX = (1, 4), (2.0, 7.0)


def population_of(name: TestSetName, population: PopulationConfig) -> PopulationConfig:
    """The population that a set's persons are drawn from.

    Raises:
        ConfigError: the set needs a second head family, and none is given.
    """
    if name != "cross-model":
        return population
    if population.ict is None:
        raise ConfigError("cross-model: expected the second head family; give --ict")
    return replace(population, ict_share=1.0)


def draw_test_person(name: TestSetName, population: PopulationConfig, index: int, heads: Sequence[HeadModel]) -> Person:
    """Person ``index`` of a set; ``population`` as `population_of` gives it."""
    person = draw_person(population, index, heads)
    return (
        replace(person, camera=_turned(person.camera, float(np.deg2rad(yaw_deg(index))))) if name == "pose" else person
    )


def yaw_deg(index: int) -> int:
    """To which side the camera of a person of ``pose`` stands."""
    return YAWS_DEG[index % len(YAWS_DEG)]


def _turned(camera: Camera, yaw_rad: float) -> Camera:
    return orbit_camera(size=camera.width, yaw_rad=yaw_rad, distance_mm=FRONT_DISTANCE_MM, field_mm=FRONT_FIELD_MM)


def source_index(name: TestSetName, person: Person) -> int:
    """Which of a person's images is the source; 0 is at rest."""
    if name != "expressive":
        return 0
    rng = np.random.default_rng([SOURCE_STREAM, person.index])
    return int(1 + rng.integers(len(person.expressions) - 1))


def captured(name: TestSetName, image: Rgbd, person: Person) -> Rgbd:
    """The source as it is captured.

    Args:
        name: name of the test set.
        image: the true render of what the source shows.
        person: whose; their index seeds the noise.
    """
    if name != "sensor":
        return image
    rng = np.random.default_rng([SENSOR_STREAM, person.index])
    # An edit keeps the exposure of its source, so another one would only make the truth a wrong answer.
    sensor = replace(draw_sensor(rng), exposure=1.0, white_balance=(1.0, 1.0, 1.0), gamma=1.0)
    seen = sense(image, sensor, rng)
    mask = seen.mask & ~holes(seen.mask, rng)
    return replace(seen, mask=mask, depth_mm=np.where(mask, seen.depth_mm, 0.0).astype(np.float32))


def holes(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Round patches on the head, about as large as a nostril to a brow at 128 pixels."""
    at = np.argwhere(mask)
    rows, columns = np.indices(mask.shape)
    out = np.zeros_like(mask)
    scale = mask.shape[0] / 128
    for _ in range(int(rng.integers(NUM_HOLES[0], NUM_HOLES[1] + 1))):
        centre: Float[np.ndarray, "2"] = at[rng.integers(len(at))].astype(np.float64)
        out |= (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (scale * rng.uniform(*HOLE_PX)) ** 2
    return out
