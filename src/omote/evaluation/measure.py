"""Measurement of images against the ground truth: all metrics of the catalogue that images alone give, and the judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.population import Person
from omote.evaluation import metrics
from omote.evaluation.catalogue import catalogue
from omote.evaluation.comparison import Comparison, RgbdArrays, batch, filled, stacked
from omote.evaluation.features import FeatureExtractor
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.judges.panel import ExpressionJudges, IdentityJudge
from omote.evaluation.records import PersonRecords, Record, Row, descriptor_by, judged_by
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.types import Rgbd

CEILING = Row("ceiling")


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The panel of judges; the second identity network is given by the user."""

    expression: ExpressionJudges
    identity: IdentityJudge
    second_identity: FeatureExtractor | None = None


def measure(
    images: Mapping[Row, Sequence[Rgbd]], person: Person, heads: Sequence[HeadModel], truth: GroundTruth, judges: Judges
) -> PersonRecords:
    """All measurements of a person's rows.

    Args:
        images: images per row, in the order of the person's expressions; `CEILING` is the true render.
        person: person, whose ``head`` is an index into ``heads``.
        heads: head families.
        truth: ground truth of the person.
        judges: panel of judges.
    """
    true = stacked(truth.images)
    names = [e.category for e in person.expressions]
    neutral = torch.from_numpy(np.repeat(truth.landmarks_px[:1], len(names), 0))
    by_row = {row: stacked(seen) for row, seen in images.items()}
    records = [*_identity(by_row, true, neutral, judges)]
    for row, shown in by_row.items():
        records += judged(row, batch(shown), neutral, names, judges.expression)
        if row.name != CEILING.name:
            records += measured(row, comparison(shown, truth))
    return PersonRecords(
        parts={"head": heads[person.head].name},
        category=tuple(CATEGORIES.index(name) for name in names),
        intensity=tuple(float(e.intensity) for e in person.expressions),
        records=tuple(records),
    )


def comparison(shown: RgbdArrays, truth: GroundTruth) -> Comparison:
    """A row's images beside the true renders; motion is measured from the source's true render."""
    return Comparison(
        shown=filled(shown),
        true=stacked(truth.images),
        source=stacked([truth.images[truth.source_index]] * len(truth.images)),
        intrinsics=np.stack([image.camera.intrinsics for image in truth.images]),
        landmarks_px=truth.landmarks_px,
    )


def measured(row: Row, found: Comparison) -> list[Record]:
    """All metrics of the catalogue that images alone give."""
    return [
        Record(row=row, measure=metric.key, values=metric.measure(found)) for metric in catalogue() if metric.measure
    ]


def judged(
    row: Row,
    rgb: Float[Tensor, "n 3 h w"],
    neutral: Float[Tensor, "n 68 2"],
    asked: Sequence[str],
    by: ExpressionJudges,
) -> list[Record]:
    """The expression judges' answers on images.

    Args:
        row: row of the images.
        rgb: colours in [0, 1].
        neutral: true neutral landmarks.
        asked: requested category of each image.
        by: expression judges.
    """
    place = torch.tensor([CATEGORIES.index(name) for name in asked])[:, None]
    records = []
    for judge, probabilities in by.probabilities(rgb, neutral).named().items():
        share = probabilities.gather(1, place)[:, 0] / probabilities.sum(dim=1)
        first = probabilities.argmax(dim=1)
        records += [
            Record(row=row, measure=judged_by(judge), values=first.numpy().astype(np.float64)),
            Record(row=row, measure=f"expression/asked_{judge}", values=share.double().numpy()),
        ]
    return records


def _identity(
    by_row: Mapping[Row, RgbdArrays], true: RgbdArrays, neutral: Float[Tensor, "n 68 2"], judges: Judges
) -> Iterator[Record]:
    """Distances of descriptors, and the descriptor at rest, which identifies the person."""
    of_truth = judges.identity.embed(batch(true), neutral).numpy()
    yield Record(row=CEILING, measure=descriptor_by("faceapi"), values=of_truth[:1].astype(np.float64))
    second = judges.second_identity
    second_of_truth = None if second is None else second(batch(true), neutral).numpy()
    for row, shown in by_row.items():
        if row.name == CEILING.name:
            continue
        rgb = batch(shown)
        distance = metrics.identity_distance(judges.identity.embed(rgb, neutral).numpy(), of_truth)
        yield Record(row=row, measure="identity/faceapi", values=distance)
        if second is not None and second_of_truth is not None:
            cosine = metrics.identity_cosine(second(rgb, neutral).numpy(), second_of_truth)
            yield Record(row=row, measure=f"identity/{second.name}", values=1 - cosine)
