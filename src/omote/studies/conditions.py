"""What studies of a finished editor share: each is a list of conditions, and a condition turns a person into a task.

A `StudyCondition` says how a person is shown (camera, expressions), how the source is captured, and which edits are asked for.
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

# Rows that no edit makes.
BESIDE = (CEILING, AUTOENCODER, COPY)
# An own stream for expressions that a study draws anew.
EXPRESSION_STREAM = 71
Asks = Literal["weights", "category", "token"]


@dataclass(frozen=True, kw_only=True)
class StudyOfEdits(PersonStudy, ModelStudy):
    """A study of an editor on unseen persons."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One way of asking for an expression.

    Attributes:
        settings: settings of the sampler; its seed is replaced by the person's.
        asks: "weights": the true ARKit weights; "category": category and intensity, for which the model draws weights; "token":
            category and intensity, which the editor alone turns into an expression, without a face to move.
        network: name of one of the study's networks.
    """

    settings: EditSettings = EditSettings()
    asks: Asks = "weights"
    network: str = "model"


@dataclass(frozen=True, kw_only=True)
class StudyCondition:
    """One value of what is varied.

    Attributes:
        at: axis → value; rows are under it. Empty for what is not varied.
        edits: edits by row.
        shown: a person as this condition shows them: another camera, other expressions.
        captured: the captured source of a person, from the true render at rest.
        beside: rows of `BESIDE` to measure; rows that are the same in every condition are measured in one of them.
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
        """The item of a person under this condition."""
        return str(Row(person).under(**self.at)).replace("/", "_").replace("=", "_")


def at_intensity(person: Person, intensity: float) -> Person:
    """The person showing each category at one intensity; recipe, jitter and tilt are the same at every intensity.

    Args:
        person: person whose index seeds the draw.
        intensity: [0, 1]; neutral stays at 0.
    """
    expressions = []
    for expression in person.expressions:
        category = CATEGORIES.index(expression.category)
        rng = np.random.default_rng([EXPRESSION_STREAM, person.index, category])
        expressions.append(draw_expression(expression.category, rng, intensity=intensity if category else 0.0))
    return replace(person, expressions=tuple(expressions))
