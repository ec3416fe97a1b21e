"""What is measured of images against the truth, per image: the panel of judges, and all numbers of a row of one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from omote.datasets.population import Person
from omote.evaluation import metrics
from omote.evaluation.added import added_measures
from omote.evaluation.features import FeatureExtractor
from omote.evaluation.judges import ExpressionJudges, IdentityJudge
from omote.evaluation.truth import Truth, answered, stacked
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class EvaluationStep:
    """Progress: persons done of all."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The panel; the second identity network is a user's own."""

    expression: ExpressionJudges
    identity: IdentityJudge
    second_identity: FeatureExtractor | None = None


def measure(
    images: Mapping[str, Sequence[Rgbd]], person: Person, heads: Sequence[HeadModel], truth: Truth, judges: Judges
) -> dict[str, object]:
    """Everything measured of one person's rows: lists over the seven images, per metric and row."""
    true, landmarks = stacked(truth.images), truth.landmarks_px
    # What moves, moves from what the source truly shows.
    source_depth = np.repeat(true.depth_mm[truth.source_index][None], len(true.rgb), 0)
    source_mask = np.repeat(true.mask[truth.source_index][None], len(true.rgb), 0)
    moving = metrics.moving_mask(true.depth_mm, true.mask, source_depth, source_mask)
    mouth = metrics.box_mask(metrics.mouth_boxes(landmarks), height=true.mask.shape[1], width=true.mask.shape[2])
    neutral = torch.from_numpy(np.repeat(landmarks[:1], len(landmarks), 0))
    out: dict[str, object] = {
        "head": heads[person.head].name,
        "category": [CATEGORIES.index(e.category) for e in person.expressions],
        "intensity": [e.intensity for e in person.expressions],
    }
    true_identity = judges.identity.embed(torch.from_numpy(true.rgb).permute(0, 3, 1, 2), neutral).numpy()
    second = judges.second_identity
    true_second = None if second is None else second(torch.from_numpy(true.rgb).permute(0, 3, 1, 2), neutral).numpy()
    # What tells persons apart, as a reference for every identity distance.
    out["descriptor"] = true_identity[0].tolist()
    for row, seen in images.items():
        stack = stacked(seen)
        rgb = torch.from_numpy(stack.rgb).permute(0, 3, 1, 2).contiguous()
        scores = judges.expression.probabilities(rgb, neutral)
        for judge, probabilities in scores.named().items():
            out[f"judged_{judge}/{row}"] = probabilities.argmax(dim=1).tolist()
            asked = torch.tensor(out["category"])[:, None]
            out[f"asked_{judge}/{row}"] = (probabilities.gather(1, asked)[:, 0] / probabilities.sum(dim=1)).tolist()
        out[f"identity/{row}"] = metrics.identity_distance(
            judges.identity.embed(rgb, neutral).numpy(), true_identity
        ).tolist()
        if second is not None and true_second is not None:
            cosine = metrics.identity_cosine(second(rgb, neutral).numpy(), true_second)
            out[f"identity_{second.name}/{row}"] = (1 - cosine).tolist()
        if row == "ceiling":
            continue
        # The truth's mask decides; where a row shows nothing there, its median depth is its answer.
        depth = answered(stack)
        errors = metrics.depth_errors(depth, true.depth_mm, true.mask)
        aligned = metrics.affine_aligned(depth, true.depth_mm, true.mask)
        out[f"mae/{row}"] = errors.mae_mm.tolist()
        out[f"rmse/{row}"] = errors.rmse_mm.tolist()
        out[f"absrel/{row}"] = errors.absrel.tolist()
        out[f"delta1/{row}"] = errors.delta1.tolist()
        out[f"mae_aligned/{row}"] = metrics.depth_errors(aligned, true.depth_mm, true.mask).mae_mm.tolist()
        out[f"mae_moving/{row}"] = metrics.depth_errors(depth, true.depth_mm, moving).mae_mm.tolist()
        out[f"psnr/{row}"] = metrics.psnr_db(stack.rgb, true.rgb, true.mask).tolist()
        out[f"psnr_mouth/{row}"] = metrics.psnr_db(stack.rgb, true.rgb, mouth & true.mask).tolist()
        added = added_measures(
            stack.rgb, depth, true.rgb, true.depth_mm, true.mask, truth.images[0].camera, source_depth, source_mask
        )
        out.update({f"{key}/{row}": values for key, values in added.items()})
    return out
