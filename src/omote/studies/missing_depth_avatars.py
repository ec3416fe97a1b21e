"""Avatars of partial scans by every completion: their error, how their expressions are recognised, and whose face it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.progress import finish
from omote.rgbd.protocol import Editor
from omote.runs import Stopwatch
from omote.studies.avatar_methods import TEXTURE_PX, GroundTruthHead, MadeMeshes, rendered_meshes
from omote.studies.completion_methods import NOTHING, RESTORATION
from omote.types import PointCloud

REST, MOVING, TOP1, IDENTITY = "avatar/rest_mm", "avatar/surface_mm_moving", "expression/top1_both", "identity/faceapi"
TRUE = "truth"


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
        out: dict[str, dict[str, float]] = {}
        for name, completion in self.completions.items():
            # The alignment's refinement is the restoration.
            whole = alignment if name == RESTORATION else completed(self.head, alignment, completion(given))
            made, shown = self._avatar(whole, truth)
            out[name] = made
            out[TRUE] = shown
        return out

    def _avatar(self, alignment: Alignment, truth: GroundTruthHead) -> tuple[dict[str, float], dict[str, float]]:
        steps = self.pipeline.made(alignment, expressions_of(("all",)), AvatarSettings(), watch=Stopwatch())
        made = finish(steps, None)
        avatar = MadeMeshes.of(made, alignment)
        names = list(CATEGORIES)
        weights = {e.category: e.arkit for e in made.expressions}
        rest, *_ = truth.posed([None])
        true = truth.posed([weights[name] for name in names])
        posed = avatar.neutral_mm + np.stack([avatar.expressions_mm[name] for name in names])
        tied = true_motion(avatar.head, avatar.neutral_mm, rest, true, truth.skin)
        errors = mesh_errors(avatar.head, avatar.neutral_mm, posed, tied)
        at_rest = names.index("neutral")
        own, pixels = rendered_meshes(made.head, avatar.neutral_mm, posed, made.avatar.texture, made, names)
        texture = bake_texture(truth.head, rest, alignment.scan, size=TEXTURE_PX).texture
        real, true_pixels = rendered_meshes(truth.head, rest, true, texture, made, names)
        descriptors = [self.identity.embed(rgb, at).numpy() for rgb, at in ((own, pixels), (real, true_pixels))]
        distance = metrics.identity_distance(*descriptors)
        values = {
            REST: float(errors["avatar/surface_mm"][at_rest]),
            MOVING: float(np.nanmean(errors[MOVING])),
            TOP1: self._recognised(own, pixels, names),
            IDENTITY: float(np.delete(distance, at_rest).mean()),
        }
        return values, {TOP1: self._recognised(real, true_pixels, names)}

    def _recognised(
        self, rgb: Float[Tensor, "n 3 s s"], pixels: Float[Tensor, "n 68 2"], names: Sequence[str]
    ) -> float:
        """Share of the expressions that both judges together take for what they are."""
        found = self.expression.probabilities(rgb, pixels).both.argmax(dim=1)
        return float(np.mean([CATEGORIES[int(k)] == name for k, name in zip(found, names, strict=True)]))
