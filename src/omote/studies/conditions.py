"""The common part of studies of a finished editor: each is a list of conditions, and a condition turns a person into edits.

A `StudyCondition` defines a person's camera and expressions, the capture of the source, and the edits.
`omote.studies.measured_edits` measures them all on the same unseen persons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from omote.diffusion.settings import EditSettings
from omote.evaluation.records import Row
from omote.head.expressions import CATEGORIES, draw_expression
from omote.studies.base import ModelStudy, PersonStudy
from omote.studies.table import AUTOENCODER, CEILING, COPY, At

if TYPE_CHECKING:
    from omote.datasets.population import Person
    from omote.types import Rgbd

# Rows that are made without an edit.
BESIDE = (CEILING, AUTOENCODER, COPY)
# A random stream of its own, for expressions that a study draws.
EXPRESSION_STREAM = 71
Asks = Literal["weights", "category", "token"]


@dataclass(frozen=True, kw_only=True)
class StudyOfEdits(PersonStudy, ModelStudy):
    """A study of an editor on unseen persons."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An edit under one condition.

    Attributes:
        settings: settings of the sampler, with a seed that the person's own replaces.
        asks: condition of the edit: "weights" for the true ARKit weights; "category" for category and intensity, with
            weights drawn by the model; "token" for category and intensity alone, without motion images.
        network: name of one of the study's networks.
    """

    settings: EditSettings = EditSettings()
    asks: Asks = "weights"
    network: str = "model"


@dataclass(frozen=True, kw_only=True)
class StudyCondition:
    """One value of a varied quantity.

    Attributes:
        at: axis and value of the rows; empty for the standard condition.
        edits: edits by row.
        shown: function that changes a person's camera or expressions.
        captured: function from a person's true render at rest to the captured source.
        beside: rows of `BESIDE` to measure; a row that is the same in every condition is measured in one of them.
    """

    at: At = field(default_factory=dict)
    edits: Mapping[Row, Edit]
    shown: Callable[[Person], Person] = lambda person: person
    captured: Callable[[Rgbd, Person], Rgbd] = lambda image, person: image
    beside: Sequence[Row] = BESIDE

    @property
    def rows(self) -> list[Row]:
        """All rows, without the condition."""
        return [*self.edits, *self.beside]

    def item(self, person: str) -> str:
        """Name of the item of a person under this condition."""
        return str(Row(person).under(**self.at)).replace("/", "_").replace("=", "_")


def at_intensity(person: Person, intensity: float) -> Person:
    """The person with each category at one intensity; recipe, jitter and tilt are the same at every intensity.

    Args:
        person: person whose index seeds the draw.
        intensity: intensity in [0, 1]; neutral stays at 0.
    """
    expressions = []
    for expression in person.expressions:
        category = CATEGORIES.index(expression.category)
        rng = np.random.default_rng([EXPRESSION_STREAM, person.index, category])
        expressions.append(draw_expression(expression.category, rng, intensity=intensity if category else 0.0))
    return replace(person, expressions=tuple(expressions))
