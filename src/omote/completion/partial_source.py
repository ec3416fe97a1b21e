"""Partial scans to train completions with and to calibrate them on, with the heads that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.completion.base import PartialScan
from omote.completion.missing import KINDS, STRENGTHS, missing_case, subject_of
from omote.completion.partials import partial_scan
from omote.datasets.population import PopulationConfig, draw_person
from omote.datasets.view_shards import ViewShard
from omote.errors import AlignmentError, ConfigError
from omote.geometry.camera import transform
from omote.head.correspondence import in_topology_of
from omote.head.model import HeadModel
from omote.multiview.data import ViewSource


@dataclass(frozen=True, kw_only=True)
class KnownScan:
    """A partial scan of a known head.

    Attributes:
        partial: the scan, with the head fitted to it.
        truth_mm: vertices of the true head, in the scan's canonical frame and in the fitted head's topology.
        canonical_from_rig: motion from the frame of the head's views into the scan's.
    """

    partial: PartialScan
    truth_mm: Float[np.ndarray, "v 3"]
    canonical_from_rig: Float[np.ndarray, "4 4"]


class PartialSource:
    """Partial scans of a population's faces, and of persons of the validation split.

    Args:
        population: population of view shards, or configuration of a population with a rig.
        heads: head models of the population; the first is fitted.

    Raises:
        ConfigError: the population has persons of a head family whose model is not given.
    """

    def __init__(self, population: Path | PopulationConfig, heads: Sequence[HeadModel]) -> None:
        self.views = ViewSource(population, heads)
        if max(int(shard.head.max()) for shard in self.views.shards) >= len(heads):
            raise ConfigError("ict: expected ICT-FaceKit, of which the population has persons; give --set ict=PATH")
        self.head = heads[0]
        self._originals, self._models = heads, [in_topology_of(head, heads[0]) for head in heads]
        self._held_out: list[KnownScan] = []

    def of_face(self, shard: ViewShard, row: int, image: int, rng: np.random.Generator) -> KnownScan:
        """A partial scan of a face, of its views in the population.

        Raises:
            AlignmentError: no fit succeeded, of several partial scans.
        """
        model = self._models[int(shard.head[row])]
        canonical = model.vertices(shard.identity[row][: model.num_identity], shard.arkit[row, image])
        truth = transform(shard.pose[row, image].astype(np.float64), canonical.astype(np.float64))
        partial, motion = partial_scan(shard, row, image, truth, self.head, rng)
        return KnownScan(partial=partial, truth_mm=transform(motion, truth), canonical_from_rig=motion)

    def held_out(self, number: int) -> list[KnownScan]:
        """`held_out_scans` of this population's head models."""
        if not self._held_out:
            self._held_out = held_out_scans(self._originals, number)
        return self._held_out


def held_out_scans(heads: Sequence[HeadModel], number: int) -> list[KnownScan]:
    """Partial scans of persons of the validation split at rest, as users' scans mostly are, of all kinds and strengths.

    Args:
        heads: head models of the persons; the first is fitted.
        number: number of scans, of one person each.
    """
    config = PopulationConfig(split="validation", num_images=1)
    models = [in_topology_of(head, heads[0]) for head in heads]
    found: list[KnownScan] = []
    for index, (strength, kind) in enumerate(cycle(product(STRENGTHS, KINDS))):
        if len(found) >= number:
            break
        subject = subject_of(draw_person(config, index, heads), heads, models)
        try:
            case = missing_case(subject, kind, strength, heads[0], seed=index + 1)
        except AlignmentError:
            continue
        known = KnownScan(partial=case.partial, truth_mm=case.truth_mm, canonical_from_rig=case.canonical_from_world)
        found.append(known)
    return found
