"""Where paint goes on a face: distances and weights per vertex, placed by the template's own 68 landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from omote.head.model import HeadModel, once_per_head
from omote.rendering.regions import part_mask

FAR_MM = 99.0
BROW_BELOW_LANDMARKS_MM = 3.0


@dataclass(frozen=True, kw_only=True)
class PaintRegions:
    """Per-vertex geometry of paint, on the template.

    Attributes:
        skin: 1 on skin.
        lip_mm: signed distance to the lips' outline seen from the front, negative inside.
        brow_mm: distance to the nearer brow's line.
        brow_along: position along it, 0 at the inner end.
        lid_mm: distance to the eye contours.
        upper_lid_mm: distance to the upper lids' edges.
        blush: cheeks, nose tip and chin, about 1 at their centres.
        socket: below the eyes.
        nostril: weight at the nostrils.
        beard: chin, jaw and throat.
        moustache: between nose and lip.
        hair_mm: height above a median hairline, positive in the hair.
        hairless: ears and nape, where a hair cap must not go.
    """

    skin: Float[np.ndarray, "v"]
    lip_mm: Float[np.ndarray, "v"]
    brow_mm: Float[np.ndarray, "v"]
    brow_along: Float[np.ndarray, "v"]
    lid_mm: Float[np.ndarray, "v"]
    upper_lid_mm: Float[np.ndarray, "v"]
    blush: Float[np.ndarray, "v"]
    socket: Float[np.ndarray, "v"]
    nostril: Float[np.ndarray, "v"]
    beard: Float[np.ndarray, "v"]
    moustache: Float[np.ndarray, "v"]
    hair_mm: Float[np.ndarray, "v"]
    hairless: Float[np.ndarray, "v"]


def line_distance(
    points: Float[np.ndarray, "v d"], line: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "v"], Float[np.ndarray, "v"]]:
    """Distance to a polyline, and the position along it in [0, 1] of the nearest point."""
    distance, along = np.full(len(points), np.inf), np.zeros(len(points))
    for i in range(len(line) - 1):
        a, ab = line[i], line[i + 1] - line[i]
        t = np.clip((points - a) @ ab / max(float(ab @ ab), 1e-9), 0, 1)
        d = np.linalg.norm(points - (a + t[:, None] * ab), axis=1)
        along = np.where(d < distance, (i + t) / (len(line) - 1), along)
        distance = np.minimum(distance, d)
    return distance, along


def outline_distance(points: Float[np.ndarray, "v 2"], outline: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "v"]:
    """Signed distance to a closed outline, negative inside (even-odd rule)."""
    distance, _ = line_distance(points, np.concatenate([outline, outline[:1]]))
    inside = np.zeros(len(points), bool)
    for a, b in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (a[1] > points[:, 1]) != (b[1] > points[:, 1])
        height = b[1] - a[1] if b[1] != a[1] else 1e-12
        inside ^= crosses & (points[:, 0] < (b[0] - a[0]) * (points[:, 1] - a[1]) / height + a[0])
    return np.where(inside, -distance, distance)


def brow_lines(head_model: HeadModel) -> Float[np.ndarray, "2 5 3"]:
    """Middle lines of the person's right and left brow on the template, in mm, from the inner end outwards."""
    # The landmarks lie on the brows' upper edge; hair grows below them.
    marks = head_model.landmarks(head_model.template_mm.astype(np.float64))[17:27] - [0, BROW_BELOW_LANDMARKS_MM, 0]
    return np.stack([marks[4::-1], marks[5:]])


@once_per_head
def paint_regions(head_model: HeadModel) -> PaintRegions:
    """The model's regions."""
    v = head_model.template_mm.astype(np.float64)
    marks = head_model.landmarks(v)

    def spot(center: np.ndarray, radius_mm: float) -> np.ndarray:
        return np.exp(-0.5 * ((v - center) ** 2).sum(axis=1) / radius_mm**2)

    def ramp(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 1)

    lip_front_mm = marks[48:60, 2].mean()
    lip = outline_distance(v[:, :2], marks[48:60, :2])
    right_line, left_line = brow_lines(head_model)
    right_brow, right_along = line_distance(v, right_line)
    left_brow, left_along = line_distance(v, left_line)
    right_is_near = right_brow < left_brow
    lids = [np.append(ids, ids[0]) for ids in (np.arange(36, 42), np.arange(42, 48))]
    nose_base, chin, upper_lip = marks[33], marks[8], marks[51]
    brow_height = marks[19:25, 1].mean()
    # Cheek apples lie between the outer eye corner and the mouth corner, a little outside.
    cheeks = [0.45 * marks[a] + 0.55 * marks[b] + [side, 0, 0] for a, b, side in ((36, 48, -12.0), (45, 54, 12.0))]
    eyes = [marks[36:42].mean(axis=0), marks[42:48].mean(axis=0)]
    above_throat = ramp((v[:, 1] - (chin[1] - 22)) / 14)
    sideburn = ramp((v[:, 1] - marks[2, 1]) / 10)
    half_width = np.abs(marks[[0, 16], 0]).mean()
    # The cheek's beard line hangs from the sideburns to the mouth's corners.
    corner = np.abs(marks[[48, 54], 0]).mean()
    out = np.clip((np.abs(v[:, 0]) - corner) / (half_width - corner), 0, 1)
    corner_height = marks[[48, 54], 1].mean() + 4
    below_line = ramp((corner_height + (marks[2, 1] + 8 - corner_height) * out**1.5 - v[:, 1]) / 9 + 0.5)
    ear = (np.abs(v[:, 0]) > half_width + 2) & (v[:, 1] < marks[19, 1] + 8) & (v[:, 1] > -70) & (v[:, 2] > -105)
    return PaintRegions(
        skin=part_mask(head_model, "skin").astype(np.float64),
        lip_mm=np.where(v[:, 2] > lip_front_mm - 16, lip, FAR_MM),
        brow_mm=np.minimum(right_brow, left_brow),
        brow_along=np.where(right_is_near, right_along, left_along),
        lid_mm=np.min([line_distance(v, marks[ids])[0] for ids in lids], axis=0),
        upper_lid_mm=np.min([line_distance(v, marks[ids])[0] for ids in (slice(36, 40), slice(42, 46))], axis=0),
        blush=spot(cheeks[0], 17.0) + spot(cheeks[1], 17.0) + 0.8 * spot(marks[30], 11.0) + 0.35 * spot(chin, 14.0),
        socket=np.sum([spot(eye + np.array([0.0, -6.0, 0.0]), 13.0) for eye in eyes], axis=0),
        # The holes lie above the landmarks of the wings, and do not reach down to the lip.
        nostril=ramp(
            spot(marks[32] + np.array([0.0, 3.8, 0.0]), 2.7) + spot(marks[34] + np.array([0.0, 3.8, 0.0]), 2.7)
        )
        * ramp((v[:, 1] - marks[[32, 34], 1].mean() - 0.5) / 2.5),
        beard=below_line * above_throat * ramp((v[:, 2] + 28) / 20) * ramp(1.3 - sideburn),
        # It droops towards the mouth's corners and ends a little outside them.
        moustache=np.exp(-0.5 * ((v[:, 1] - (nose_base[1] + upper_lip[1]) / 2 + 0.008 * v[:, 0] ** 2) / 4) ** 2)
        * ramp((corner + 7 - np.abs(v[:, 0])) / 5)
        * (v[:, 2] > lip_front_mm - 18),
        hair_mm=v[:, 1]
        - (brow_height + 48)
        + 0.9 * np.clip(-v[:, 2] - 6, 0, 95)
        + 0.25 * np.clip(np.abs(v[:, 0]) - 45, 0, 30),
        hairless=np.maximum(ear.astype(np.float64), ramp((-60 - v[:, 1]) / 20)),
    )
