"""Cameras outside the training distribution: error, identity and expression against yaw, pitch, focal length and distance.

Source and ground truth are rendered with each camera. Training used cameras around the standard one: yaw and pitch of about 6°,
at most 20°, and distance within 5 % (`omote.datasets.population.draw_camera`); the standard camera therefore lies within every
axis. ``focal`` changes the lens at the same place, so that the head is smaller in the image or cut off by its border.
``distance`` moves the camera and changes the lens to keep the head's size, so that only the perspective changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np

from omote.config import Range
from omote.evaluation.figures import figure
from omote.geometry.camera import FRONT_DISTANCE_MM, FRONT_FIELD_MM, orbit_camera
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.conditions import Edit, StudyCondition, StudyOfEdits
from omote.studies.table import DEPTH, IDENTITY, MODEL, TOP1, At, curves

if TYPE_CHECKING:
    from omote.datasets.population import Person

# Axis → its label, and the standard camera's value on it; rows at the standard camera have no condition.
AXES: Mapping[str, tuple[str, float]] = {
    "yaw": ("yaw, degrees to either side", 0.0),
    "pitch": ("pitch, degrees (up is positive)", 0.0),
    "focal": ("focal length over the standard one", 1.0),
    "distance": ("distance, mm", FRONT_DISTANCE_MM),
}


@dataclass(frozen=True, kw_only=True)
class Cameras(StudyOfEdits):
    """Error, identity and expression against yaw, pitch, focal length and distance of the camera.

    Attributes:
        yaw: yaw angles in degrees; persons with an odd index are turned to the other side.
        pitch: pitch angles in degrees.
        focal: focal lengths relative to the standard one.
        distance: distances in mm.
    """

    NAME = "camera"

    yaw: tuple[Annotated[float, Range(-180, 180)], ...] = (15.0, 30.0, 45.0)
    pitch: tuple[Annotated[float, Range(-89, 89)], ...] = (-30.0, -15.0, 15.0, 30.0)
    focal: tuple[Annotated[float, Range(0.1, 10)], ...] = (0.7, 0.85, 1.2, 1.4)
    distance: tuple[Annotated[float, Range(250)], ...] = (350.0, 500.0, 1000.0, 1400.0)

    def on(self, axis: str) -> list[tuple[float, At]]:
        """Values of an axis with their conditions in order, including the standard camera's."""
        values: tuple[float, ...] = getattr(self, axis)
        at = [(AXES[axis][1], {}), *((value, {axis: value}) for value in values)]
        return sorted(at, key=lambda pair: pair[0])

    def run(self, work: Work) -> Steps[Results]:
        """Measure; rows are ``<row>/<axis>=<value>``, and ``<row>`` at the standard camera."""
        from omote.studies.measured_edits import measure_conditions

        edits = {MODEL: Edit()}
        conditions = [StudyCondition(edits=edits, shown=partial(seen_from, axis="yaw", value=0.0))]
        for axis in AXES:
            for value, at in self.on(axis):
                if at:
                    seen = partial(seen_from, axis=axis, value=value)
                    conditions.append(StudyCondition(at=at, edits=edits, shown=seen))
        table = yield from measure_conditions(self, work, conditions)
        charts = [
            curves(table, metric, self.on(axis), label)
            for metric in (DEPTH, IDENTITY, TOP1)
            for axis, (label, _) in AXES.items()
        ]
        return Results(table=table, figure=figure(charts, columns=len(AXES)))


def seen_from(person: Person, axis: str, value: float) -> Person:
    """The person seen by the standard camera with one of `AXES` changed."""
    size = person.camera.width
    if axis == "yaw":
        camera = orbit_camera(size=size, yaw_rad=float(np.deg2rad(value)) * (-1 if person.index % 2 else 1))
    elif axis == "pitch":
        camera = orbit_camera(size=size, pitch_rad=float(np.deg2rad(value)))
    elif axis == "focal":
        camera = orbit_camera(size=size, field_mm=FRONT_FIELD_MM / value)
    else:
        camera = orbit_camera(size=size, distance_mm=value)
    return replace(person, camera=camera)
