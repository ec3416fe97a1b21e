"""Ground truth of a test person: renders of the expressions, and the captured source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.datasets.population import Person, render_person
from omote.evaluation.test_sets import TestSetName, captured, source_index
from omote.head.model import HeadModel
from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Renders of a person; the first is at rest.

    Attributes:
        images: one image per expression.
        landmarks_px: projected landmarks of each image.
        landmarks_mm: landmarks of each image in the canonical frame.
        source_index: index of the image with the source's expression.
        capture: captured source; None if it is that image itself.
    """

    images: list[Rgbd]
    landmarks_px: Float[np.ndarray, "n 68 2"]
    landmarks_mm: Float[np.ndarray, "n 68 3"]
    source_index: int = 0
    capture: Rgbd | None = None

    @property
    def source(self) -> Rgbd:
        """The source that every row is given."""
        return self.images[self.source_index] if self.capture is None else self.capture

    @property
    def source_landmarks_mm(self) -> Float[np.ndarray, "68 3"]:
        """Landmarks of the source in the canonical frame."""
        landmarks: Float[np.ndarray, "68 3"] = self.landmarks_mm[self.source_index]
        return landmarks


def render_ground_truth(person: Person, heads: Sequence[HeadModel]) -> GroundTruth:
    """Renders of the person's expressions; the source is the one at rest."""
    rendered = list(render_person(person, heads))
    return GroundTruth(
        images=[r[0] for r in rendered],
        landmarks_px=np.stack([r[1] for r in rendered]),
        landmarks_mm=np.stack([heads[person.head].landmarks(r[2]) for r in rendered]),
    )


def captured_ground_truth(name: TestSetName, person: Person, heads: Sequence[HeadModel]) -> GroundTruth:
    """Renders of the person's expressions, and the source as the test set captures it."""
    truth = render_ground_truth(person, heads)
    index = source_index(name, person)
    return replace(truth, source_index=index, capture=captured(name, truth.images[index], person))
