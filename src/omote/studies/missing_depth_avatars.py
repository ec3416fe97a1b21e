"""Avatars of partial scans by every completion: their error, how their expressions are recognised, and whose face it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from omote.align.align import Alignment, align
from omote.asset.texture import bake_texture
from omote.completion.aligned import completed, partial_of
from omote.completion.base import Completion
from omote.completion.missing import MissingCase
from omote.datasets.population import Person
from omote.errors import AlignmentError, ScanError
from omote.evaluation import metrics
from omote.evaluation.avatars import mesh_errors, true_motion
from omote.evaluation.judges.panel import load_expression_judges, load_identity_judge
from omote.head.expressions import CATEGORIES, expressions_of
from omote.head.model import HeadModel
from omote.pipelines.result import AvatarResult
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.progress import finish
from omote.rgbd.protocol import Editor
from omote.runs import Stopwatch
from omote.studies.avatar_methods import TEXTURE_PX, GroundTruthHead, rendered_meshes
from omote.studies.completion_methods import NOTHING, RESTORATION
from omote.types import PointCloud

REST, MOVING, TOP1, IDENTITY = "avatar/rest_mm", "avatar/surface_mm_moving", "expression/top1_both", "identity/faceapi"
TRUE = "truth"


@dataclass(frozen=True, kw_only=True)
class _TrueMeshes:
    """The true meshes of an avatar's expressions.

    Attributes:
        rest_mm: vertices at rest.
        posed_mm: vertices of each expression.
        recognised: share of the expressions that the judges recognise.
        descriptors: descriptor of identity of each expression.
    """

    rest_mm: Float[np.ndarray, "v 3"]
    posed_mm: Float[np.ndarray, "k v 3"]
    recognised: float
    descriptors: Float[np.ndarray, "k d"]


class AvatarMeter:
    """Networks and judges, loaded once for all persons.

    Args:
        model: editor of the avatars.
        heads: head models of the population; the first is the avatars'.
        completions: completions by name.

    Raises:
        JudgeError: the judges are not installed.
    """

    def __init__(self, model: Editor, heads: Sequence[HeadModel], completions: Mapping[str, Completion]) -> None:
        self.heads, self.head = heads, heads[0]
        self.pipeline = RgbdPipeline(model, heads[0])
        self.expression, self.identity = load_expression_judges(), load_identity_judge()
        # Where nothing is known, there is no avatar.
        self.completions = {name: made for name, made in completions.items() if name != NOTHING}

    def measured(self, person: Person, case: MissingCase) -> dict[str, dict[str, float]]:
        """Metrics of the avatar by completion, and the judges' answers on the true meshes; empty if the scan is refused.

        Args:
            person: person of the population.
            case: partial scan of the person.
        """
        partial = case.partial
        cloud = PointCloud(points=partial.points_mm, normals=partial.normals, colors=partial.colors)
        try:
            alignment = align(cloud, head=self.head)
        except (AlignmentError, ScanError):
            return {}
        own = self.heads[person.head]
        truth = GroundTruthHead(
            head=own,
            identity=person.identity,
            canonical_from_own=alignment.canonical_from_scan @ case.canonical_from_world,
        )
        given = partial_of(self.head, cloud, alignment)
        seen: _TrueMeshes | None = None
        out: dict[str, dict[str, float]] = {}
        for name, completion in self.completions.items():
            # The alignment's refinement is the restoration.
            whole = alignment if name == RESTORATION else completed(self.head, alignment, completion(given))
            steps = self.pipeline.made(whole, expressions_of(("all",)), AvatarSettings(), watch=Stopwatch())
            made = finish(steps, None)
            seen = self._true_meshes(truth, made, alignment) if seen is None else seen
            out[name] = self._avatar(made, truth, seen)
        if seen is not None:
            out[TRUE] = {TOP1: seen.recognised}
        return out

    def _true_meshes(self, truth: GroundTruthHead, made: AvatarResult, alignment: Alignment) -> _TrueMeshes:
        """The true meshes of an avatar's expressions, shown with its materials."""
        names = list(CATEGORIES)
        weights = {e.category: e.arkit for e in made.expressions}
        rest, *_ = truth.posed([None])
        posed = truth.posed([weights[name] for name in names])
        texture = bake_texture(truth.head, rest, alignment.scan, size=TEXTURE_PX).texture
        rgb, pixels = rendered_meshes(truth.head, rest, posed, texture, made, names)
        return _TrueMeshes(
            rest_mm=rest,
            posed_mm=posed,
            recognised=self._recognised(rgb, pixels, names),
            descriptors=self.identity.embed(rgb, pixels).numpy(),
        )

    def _avatar(self, made: AvatarResult, truth: GroundTruthHead, seen: _TrueMeshes) -> dict[str, float]:
        names = list(CATEGORIES)
        rest, morphs = made.avatar.neutral.vertices_mm, made.avatar.morphs_mm
        named = {expression.category: expression.name for expression in made.expressions}
        posed = rest + np.stack([morphs[named[name]] for name in names])
        tied = true_motion(made.head, rest, seen.rest_mm, seen.posed_mm, truth.skin)
        errors = mesh_errors(made.head, rest, posed, tied)
        at_rest = names.index("neutral")
        rgb, pixels = rendered_meshes(made.head, rest, posed, made.avatar.texture, made, names)
        distance = metrics.identity_distance(self.identity.embed(rgb, pixels).numpy(), seen.descriptors)
        return {
            REST: float(errors["avatar/surface_mm"][at_rest]),
            MOVING: float(np.nanmean(errors[MOVING])),
            TOP1: self._recognised(rgb, pixels, names),
            IDENTITY: float(np.delete(distance, at_rest).mean()),
        }

    def _recognised(
        self, rgb: Float[Tensor, "n 3 s s"], pixels: Float[Tensor, "n 68 2"], names: Sequence[str]
    ) -> float:
        """Share of the expressions that both judges together take for what they are."""
        found = self.expression.probabilities(rgb, pixels).both.argmax(dim=1)
        return float(np.mean([CATEGORIES[int(k)] == name for k, name in zip(found, names, strict=True)]))
