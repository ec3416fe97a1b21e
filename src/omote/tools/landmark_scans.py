"""Simulated scans with exact landmarks: population heads under hair, on shoulders, half seen, noisy, with holes.

Only geometry, only points: the networks of `omote.align.landmarks` see nothing else. Clutter (torso, hair, cap, beard, strays)
is crude on purpose: what is taught is that a face may be surrounded by anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from omote.align.views import splat, view_rotation
from omote.geometry.cloud import sample_surface
from omote.head.expressions import ARKIT_INDEX, CATEGORIES, draw_expression
from omote.head.fit import eyeball_centers
from omote.head.model import HeadModel
from omote.head.region import head_region

NUM_MODES = 60


@dataclass(frozen=True, kw_only=True)
class FakeScan:
    """A simulated scan in the canonical frame, mm.

    Attributes:
        points: everything, head and clutter.
        on_face: points of the face region.
        landmarks: exact, of the person drawn; None where the scan holds no head.
    """

    points: Float[np.ndarray, "n 3"]
    on_face: Bool[np.ndarray, " n"]
    landmarks: Float[np.ndarray, "68 3"] | None


class HeadPoints:
    """A head model's bases at fixed surface points, so that a person is one small matrix product."""

    def __init__(self, model: HeadModel, *, count: int = 20_000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        region = head_region(model)
        mouth = np.zeros(model.num_vertices, bool)
        mouth[model.part_vertices("teeth_upper", "teeth_lower", "tongue", "mouth")] = True
        faces = model.faces[~mouth[model.faces].any(axis=1)]
        template = model.template_mm.astype(np.float64)
        _, self.normals, face, weights = sample_surface(template, faces, count, rng)
        corners = faces[face]

        def at(values: np.ndarray) -> np.ndarray:
            return np.einsum("...nkc,nk->...nc", values[..., corners, :], weights).astype(np.float32)

        self.template = at(template)
        self.identity = np.stack([at(m) for m in model.identity_mm[:NUM_MODES]])
        self.expression = np.stack([at(m) for m in model.expression_mm])
        self.face = region.face[corners].all(axis=1)
        self.landmark_template = model.landmarks(template)
        self.landmark_identity = np.stack([model.landmarks(m) for m in model.identity_mm[:NUM_MODES]])
        self.landmark_expression = np.stack([model.landmarks(m) for m in model.expression_mm])
        ends = np.stack([eyeball_centers(model, template + m).mean(0) for m in model.identity_mm[:NUM_MODES]])
        self.origin_identity = ends - eyeball_centers(model, template).mean(axis=0)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(points, landmarks) of a random person with a random, mostly mild, expression."""
        a = np.clip(0.8 * rng.standard_normal(len(self.identity)), -2.2, 2.2)
        category = str(rng.choice(CATEGORIES)) if rng.random() < 0.6 else "neutral"
        arkit = draw_expression(category, rng).arkit
        assert arkit is not None
        if rng.random() < 0.2:  # eyes closed
            arkit = arkit.copy()
            arkit[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]] = rng.uniform(0.7, 1.0)
        used = np.flatnonzero(arkit)
        shift = a @ self.origin_identity
        points = self.template + np.tensordot(a.astype(np.float32), self.identity, 1)
        points = points + np.tensordot(arkit[used].astype(np.float32), self.expression[used], 1) - shift
        landmarks = self.landmark_template + np.tensordot(a, self.landmark_identity, 1)
        return points, landmarks + np.tensordot(arkit[used], self.landmark_expression[used], 1) - shift


def draw_scan(heads: list[HeadPoints], rng: np.random.Generator, *, clutter: float = 0.65) -> FakeScan:
    """A random person's scan; ``clutter`` is the chance of each of torso and hair."""
    head = heads[rng.integers(len(heads))]
    points, landmarks = head.draw(rng)
    keep = rng.random(len(points)) < np.exp(rng.uniform(np.log(0.15), 0.0))
    if rng.random() < 0.35:  # a bust cut off below the chin
        keep &= points[:, 1] > rng.uniform(-190, -125)
    points, face, normals = points[keep], head.face[keep], head.normals[keep]
    density = len(points) / 150_000.0  # points per mm²
    parts, on_face = [points], [face]
    if rng.random() < clutter:
        extra = _torso(rng, density)
        parts.append(extra)
        on_face.append(np.zeros(len(extra), bool))
    if rng.random() < clutter:
        extra = _hair(rng, points, normals, face)
        parts.append(extra)
        on_face.append(np.zeros(len(extra), bool))
    if rng.random() < 0.2:  # beard
        chin = face & (points[:, 1] < -62) & (np.abs(points[:, 0]) + 0.4 * np.abs(points[:, 1] + 70) < 75)
        points[chin] += normals[chin] * (rng.uniform(2, 14) * rng.uniform(0.3, 1, (int(chin.sum()), 1))).astype(
            np.float32
        )
    cloud, mask = np.concatenate(parts), np.concatenate(on_face)
    return _degrade(cloud, mask, landmarks, rng)


def draw_other(rng: np.random.Generator) -> FakeScan:
    """A scan without a head: a box, a ball, a body, a hand-like cluster of capsules."""
    kind = rng.integers(5)
    if kind == 0:
        points = _box(rng, rng.uniform(60, 300, 3), 8000)
    elif kind == 1:
        points = _ellipsoid(rng, rng.uniform(60, 200, 3), 8000)
    elif kind == 2:
        points = _torso(rng, 0.05) + rng.normal(0, 20, 3)
        if rng.random() < 0.5:
            points = np.concatenate(
                [points, *(_tube(rng, np.array([s * 190.0, -330, -60]), 120.0, 420.0) for s in (-1, 1))]
            )
    elif kind == 3:
        palm = _ellipsoid(rng, np.array([45.0, 50, 15]), 3000)
        points = np.concatenate([palm, *(_tube(rng, np.array([x, 40.0, 0.0]), 9.0, -75.0) for x in (-36, -12, 12, 36))])
    else:
        points = np.concatenate(
            [_ellipsoid(rng, rng.uniform(15, 90, 3), 2000) + rng.normal(0, 70, 3) for _ in range(rng.integers(2, 7))]
        )
    points = points.astype(np.float32)
    return _degrade(points, np.zeros(len(points), bool), None, rng)


def _degrade(points: np.ndarray, face: np.ndarray, landmarks: np.ndarray | None, rng: np.random.Generator) -> FakeScan:
    """One-sided views, holes, noise, strays."""
    if rng.random() < 0.5:  # what one camera sees, roughly from the front
        yaw, pitch = rng.normal(0, 0.45), rng.normal(0, 0.3)
        rotation = view_rotation(np.array([np.sin(yaw), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]))
        view = points @ rotation.T * 0.2 + np.array([64.0, 64.0, 0.0])
        nearest = splat(view, 128, 1)
        u, v = np.clip(view[:, :2].astype(int), 0, 127).T
        keep = view[:, 2] < nearest[v, u] + rng.uniform(1.0, 2.0)
        points, face = points[keep], face[keep]
    for _ in range(rng.integers(0, 4) if rng.random() < 0.5 else 0):
        center = points[rng.integers(len(points))]
        keep = np.linalg.norm(points - center, axis=1) > rng.uniform(5, 24)
        points, face = points[keep], face[keep]
    if rng.random() < 0.6:
        points = points + rng.normal(0, np.exp(rng.uniform(np.log(0.1), np.log(2.0))), points.shape)
    if rng.random() < 0.3:  # strays
        stray = points[rng.integers(0, len(points), len(points) // 60)] + rng.normal(0, 15, (len(points) // 60, 3))
        points, face = np.concatenate([points, stray]), np.concatenate([face, np.zeros(len(stray), bool)])
    return FakeScan(points=points.astype(np.float32), on_face=face, landmarks=landmarks)


def _torso(rng: np.random.Generator, density: float) -> np.ndarray:
    radii = np.array([rng.uniform(170, 250), 60 + 250 * rng.uniform() ** 2, rng.uniform(85, 140)])
    count = int(np.clip(density * 4 * radii[0] * radii[1], 500, 9_000))
    body = _ellipsoid(rng, radii, count, power=rng.uniform(0.55, 1.0))
    body += np.array([0, rng.uniform(-185, -155) - radii[1] + 25, rng.uniform(-95, -60)])
    neck = _tube(rng, np.array([0, -120, -65.0]), rng.uniform(50, 68), 120.0, count=count // 8)
    body = np.concatenate([body, neck])
    if rng.random() < 0.4:  # a collar
        angle = rng.uniform(0.5, 2 * np.pi - 0.5, count // 10)
        height = rng.uniform(0, rng.uniform(20, 60), len(angle))
        ring = rng.uniform(70, 95)
        body = np.concatenate(
            [body, np.stack([ring * np.sin(angle), -175 + height, -65 + ring * np.cos(angle)], axis=1)]
        )
    return (body + _waves(rng, body, rng.uniform(0, 10))).astype(np.float32)


def _hair(rng: np.random.Generator, points: np.ndarray, normals: np.ndarray, face: np.ndarray) -> np.ndarray:
    if rng.random() < 0.6:  # a layer over the scalp
        hairline = rng.uniform(30, 62)
        scalp = ~face & ((points[:, 1] > hairline) | ((points[:, 2] < -75) & (points[:, 1] > rng.uniform(-90, 0))))
        base, n = points[scalp], normals[scalp]
        thick = rng.uniform(3, 35)
        layer = base + n * (thick * rng.uniform(0.6, 1.0, (len(base), 1)) + _waves(rng, base, thick * 0.4)[:, :1])
        return layer.astype(np.float32)
    # Long hair, or a hood: a shell around the head with the face left open.
    radii = np.array([105.0, 130, 115]) * rng.uniform(0.95, 1.25)
    shell = _ellipsoid(rng, radii, max(300, len(points) // 2)) + np.array([0, 0, -75.0])
    shell[:, 1] = np.where(shell[:, 1] < 0, shell[:, 1] * rng.uniform(1.0, 2.0), shell[:, 1])
    opening = (shell[:, 2] > rng.uniform(-60, -15)) & (shell[:, 1] < rng.uniform(30, 70))
    opening &= np.abs(shell[:, 0]) < rng.uniform(62, 100)
    shell = shell[~opening]
    return (shell + _waves(rng, shell, rng.uniform(0, 10))).astype(np.float32)


def _waves(rng: np.random.Generator, points: np.ndarray, height: float) -> np.ndarray:
    """A smooth random displacement."""
    out = np.zeros_like(points)
    for _ in range(3):
        k = rng.normal(0, 0.05, (3, 3))
        out = out + np.sin(points @ k + rng.uniform(0, 6.3, 3)) * height / 3
    return out


def _ellipsoid(rng: np.random.Generator, radii: np.ndarray, count: int, power: float = 1.0) -> np.ndarray:
    p = rng.standard_normal((count, 3))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    return np.sign(p) * np.abs(p) ** power * radii


def _box(rng: np.random.Generator, size: np.ndarray, count: int) -> np.ndarray:
    p = rng.uniform(-1, 1, (count, 3))
    axis = rng.integers(0, 3, count)
    p[np.arange(count), axis] = np.sign(p[np.arange(count), axis])
    return p * size / 2


def _tube(rng: np.random.Generator, top: np.ndarray, radius: float, length: float, *, count: int = 1200) -> np.ndarray:
    """Points on an open tube that hangs down from ``top``; a negative length makes a slightly tilted finger stand up."""
    angle, t = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 1, count)
    p = np.stack([radius * np.cos(angle), -length * t, radius * np.sin(angle)], axis=1)
    tilt = Rotation.from_rotvec(rng.normal(0, 0.15, 3)).as_matrix() if length < 0 else np.eye(3)
    return top + p @ tilt.T
