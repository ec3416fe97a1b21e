"""The test sets: persons and the capture of their sources, fixed by name, split and seed.

``in-model``: both head families, at rest, at the standard camera, without noise. ``cross-model``: persons of the second family
alone; for networks trained on the first family (`omote study cross-model` trains some), this measures the cost of a new kind of
head. ``sensor``: the source as captured by a depth camera, with noise, quantisation, lost edges and holes. ``pose``: cameras from
-30° to 30° to the side, each for a seventh of the persons. ``expressive``: the source shows an expression. Condition and ground
truth are the same true render in all sets.
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
# Random streams separate from the population's.
SENSOR_STREAM, SOURCE_STREAM = 61, 67
# Patches without depth, such as hair, a hand or a reflection.
NUM_HOLES, HOLE_PX = (1, 4), (2.0, 7.0)


def population_of(name: TestSetName, population: PopulationConfig) -> PopulationConfig:
    """The population that a set's persons are drawn from.

    Raises:
        ConfigError: the set needs a second head family, but none is given.
    """
    if name != "cross-model":
        return population
    if population.ict is None:
        raise ConfigError("cross-model: expected the second head family; give --ict")
    return replace(population, ict_share=1.0)


def draw_test_person(name: TestSetName, population: PopulationConfig, index: int, heads: Sequence[HeadModel]) -> Person:
    """Person ``index`` of a set; ``population`` must come from `population_of`."""
    person = draw_person(population, index, heads)
    return (
        replace(person, camera=_turned(person.camera, float(np.deg2rad(yaw_deg(index))))) if name == "pose" else person
    )


def yaw_deg(index: int) -> int:
    """Yaw of the camera of a person in ``pose``."""
    return YAWS_DEG[index % len(YAWS_DEG)]


def _turned(camera: Camera, yaw_rad: float) -> Camera:
    return orbit_camera(size=camera.width, yaw_rad=yaw_rad, distance_mm=FRONT_DISTANCE_MM, field_mm=FRONT_FIELD_MM)


def source_index(name: TestSetName, person: Person) -> int:
    """Index of the image that is the source; 0 is at rest."""
    if name != "expressive":
        return 0
    rng = np.random.default_rng([SOURCE_STREAM, person.index])
    return int(1 + rng.integers(len(person.expressions) - 1))


def captured(name: TestSetName, image: Rgbd, person: Person) -> Rgbd:
    """The source as captured in a test set.

    Args:
        name: name of the test set.
        image: true render of the source.
        person: person whose index seeds the noise.
    """
    if name != "sensor":
        return image
    rng = np.random.default_rng([SENSOR_STREAM, person.index])
    # An edit keeps its source's exposure, so another exposure would only make the ground truth wrong.
    sensor = replace(draw_sensor(rng), exposure=1.0, white_balance=(1.0, 1.0, 1.0), gamma=1.0)
    seen = sense(image, sensor, rng)
    mask = seen.mask & ~holes(seen.mask, rng)
    return replace(seen, mask=mask, depth_mm=np.where(mask, seen.depth_mm, 0.0).astype(np.float32))


def holes(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Round patches on the head, of the size of a nostril to a brow at 128 pixels."""
    at = np.argwhere(mask)
    rows, columns = np.indices(mask.shape)
    out = np.zeros_like(mask)
    scale = mask.shape[0] / 128
    for _ in range(int(rng.integers(NUM_HOLES[0], NUM_HOLES[1] + 1))):
        centre: Float[np.ndarray, "2"] = at[rng.integers(len(at))].astype(np.float64)
        out |= (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (scale * rng.uniform(*HOLE_PX)) ** 2
    return out
