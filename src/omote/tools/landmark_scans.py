"""Simulated scans with exact landmarks: population heads under hair, on shoulders, in rooms, cut to masks, noisy, with holes.

The networks of `omote.align.landmarks` read points and colours only. Clutter (torso, limbs, hair, cap, beard, walls, tables,
stray points) is deliberately crude: it teaches that anything may surround a face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from omote.align.views import splat, view_rotation
from omote.geometry.cloud import sample_surface
from omote.head.expressions import ARKIT_INDEX, CATEGORIES, draw_expression
from omote.head.fit import eyeball_centers
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.rendering.appearance import HAIR, paint, random_appearance

NUM_MODES = 60
NUM_APPEARANCES = 96
IRIS_RAD = 0.42


@dataclass(frozen=True, kw_only=True)
class SimulatedScan:
    """A simulated scan in the canonical frame, mm.

    Attributes:
        points: points of head and clutter.
        on_face: mask of the face's points.
        colors: sRGB colour of each point in [0, 1]; None for a scan without colour.
        landmarks: exact landmarks of the person; None for a scan without a head.
    """

    points: Float[np.ndarray, "n 3"]
    on_face: Bool[np.ndarray, " n"]
    colors: Float[np.ndarray, "n 3"] | None
    landmarks: Float[np.ndarray, "68 3"] | None

    def kept(self, keep: Bool[np.ndarray, " n"]) -> SimulatedScan:
        """The scan with a part of its points."""
        colors = None if self.colors is None else self.colors[keep]
        return replace(self, points=self.points[keep], on_face=self.on_face[keep], colors=colors)


class HeadPoints:
    """A head model's bases at fixed surface points, with which drawing a person is one small matrix product."""

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
        self._model, self._at, self._seed = model, at, seed
        self._painted: dict[int, np.ndarray] = {}

    def colors(self, appearance: int) -> Float[np.ndarray, "n 3"]:
        """Albedo of each point, sRGB in [0, 1], for one of `NUM_APPEARANCES` persons, painted at the first call."""
        if appearance not in self._painted:
            self._painted[appearance] = self._paint(appearance)
        return self._painted[appearance].astype(np.float32)

    def _paint(self, index: int) -> np.ndarray:
        model, appearance = self._model, random_appearance(np.random.default_rng([self._seed, index]))
        colors = paint(model, appearance).astype(np.float64)
        for eye, center in zip(("eye_left", "eye_right"), eyeball_centers(model, model.template_mm), strict=True):
            ids = model.part_vertices(eye)
            out = model.template_mm[ids] - center
            forward = out[:, 2] / np.linalg.norm(out, axis=1)
            colors[ids[forward > np.cos(IRIS_RAD)]] = appearance.iris
            colors[ids[forward > np.cos(0.5 * IRIS_RAD)]] = 0.03
        return np.asarray(self._at(colors), np.float16)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points and landmarks of a random person with a random, mostly mild, expression."""
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


def draw_scan(heads: list[HeadPoints], rng: np.random.Generator, *, clutter: float = 0.65) -> SimulatedScan:
    """A scan of a random person.

    Args:
        heads: head models to draw from.
        rng: random generator.
        clutter: probability of a torso and of hair for a whole head; a third of it for limbs, a half for a room.
    """
    head = heads[rng.integers(len(heads))]
    points, landmarks = head.draw(rng)

    keep = rng.random(len(points)) < np.exp(rng.uniform(np.log(0.15), 0.0))
    part = _part(points, rng) if rng.random() < 0.4 else None
    if part is not None:
        keep &= part
    elif rng.random() < 0.35:  # a bust cut off below the chin
        keep &= points[:, 1] > rng.uniform(-190, -125)

    points, face, normals = points[keep], head.face[keep], head.normals[keep]
    colors = _lit(head.colors(int(rng.integers(NUM_APPEARANCES)))[keep], normals, rng)
    density = len(points) / 150_000.0  # points per mm²

    extras: list[np.ndarray] = []
    if part is None and rng.random() < clutter:
        extras.append(_torso(rng, density))
    if part is None and rng.random() < clutter:
        extras.append(_hair(rng, points, normals, face))
    if part is None and rng.random() < clutter / 3:
        extras.append(_limbs(rng, density))
    if rng.random() < (clutter / 2 if part is None else 0.1):
        extras.append(_room(rng, density))

    if rng.random() < 0.2:  # beard
        chin = face & (points[:, 1] < -62) & (np.abs(points[:, 0]) + 0.4 * np.abs(points[:, 1] + 70) < 75)
        points[chin] += normals[chin] * (rng.uniform(2, 14) * rng.uniform(0.3, 1, (int(chin.sum()), 1))).astype(
            np.float32
        )

    tints = [_tint(rng, len(extra)) for extra in extras]
    scan = SimulatedScan(
        points=np.concatenate([points, *extras]),
        on_face=np.concatenate([face, *(np.zeros(len(extra), bool) for extra in extras)]),
        colors=np.concatenate([colors, *tints]) if rng.random() < 0.55 else None,
        landmarks=landmarks,
    )
    return _degraded(scan, rng)


def _part(points: np.ndarray, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    """Mask of the kept points of a partial head: a mask, one side or the front."""
    kind = rng.random()
    x, y, z = points.T
    if kind < 0.6:
        a, b = rng.uniform(50, 92), rng.uniform(68, 118)
        inside = (x - rng.normal(0, 4)) ** 2 / a**2 + (y + 35 + rng.normal(0, 6)) ** 2 / b**2 < 1
        return np.asarray(inside & (z > rng.uniform(-75, -10)))
    if kind < 0.8:
        return np.asarray(x * rng.choice([-1, 1]) > rng.uniform(-45, 5))
    return np.asarray(z > rng.uniform(-95, -30))


def _lit(albedo: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours as captured by a camera: shaded or flat, with any exposure and white balance, noisy."""
    toward = np.array([rng.normal(0, 0.6), rng.normal(0.3, 0.5), 1.0])
    shade = 1 - rng.uniform(0, 0.75) * (1 - np.clip(normals @ (toward / np.linalg.norm(toward)), 0, 1))[:, None]
    exposure = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.06, 3))
    noise = rng.normal(0, rng.uniform(0, 0.05), albedo.shape)
    return np.clip(albedo * (shade if rng.random() < 0.7 else 1.0) * exposure + noise, 0, 1).astype(np.float32)


def _tint(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random colours of clutter."""
    base = np.array(HAIR[rng.integers(len(HAIR))]) if rng.random() < 0.4 else rng.uniform(0.05, 0.95, 3)
    return np.clip(base * rng.uniform(0.8, 1.2, (count, 1)) + rng.normal(0, 0.03, (count, 3)), 0, 1).astype(np.float32)


def draw_other(rng: np.random.Generator) -> SimulatedScan:
    """A scan without a head: a box, a ball, a body, a hand-like cluster of capsules, blobs, an empty room."""
    kind = rng.integers(6)
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
    elif kind == 4:
        points = _room(rng, 0.03)
    else:
        points = np.concatenate(
            [_ellipsoid(rng, rng.uniform(15, 90, 3), 2000) + rng.normal(0, 70, 3) for _ in range(rng.integers(2, 7))]
        )
    points = points.astype(np.float32)
    scan = SimulatedScan(points=points, on_face=np.zeros(len(points), bool), colors=None, landmarks=None)
    return _degraded(scan, rng)


def _degraded(scan: SimulatedScan, rng: np.random.Generator) -> SimulatedScan:
    """The scan as a one-sided view, with holes, noise and stray points."""
    if rng.random() < 0.5:  # surface seen by one camera, roughly from the front
        yaw, pitch = rng.normal(0, 0.45), rng.normal(0, 0.3)
        rotation = view_rotation(np.array([np.sin(yaw), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]))
        view = scan.points @ rotation.T * 0.2 + np.array([192.0, 192.0, 0.0])
        nearest = splat(view, 384, 1)
        u, v = np.clip(view[:, :2].astype(int), 0, 383).T
        scan = scan.kept(view[:, 2] < view[nearest[v, u], 2] + rng.uniform(1.0, 2.0))
    for _ in range(rng.integers(0, 4) if rng.random() < 0.5 else 0):
        center = scan.points[rng.integers(len(scan.points))]
        scan = scan.kept(np.linalg.norm(scan.points - center, axis=1) > rng.uniform(5, 24))
    points = scan.points
    if rng.random() < 0.6:
        points = points + rng.normal(0, np.exp(rng.uniform(np.log(0.1), np.log(2.0))), points.shape)
    if rng.random() < 0.3 and len(points) > 60:  # stray points
        ids = rng.integers(0, len(points), len(points) // 60)
        stray = points[ids] + rng.normal(0, 15, (len(ids), 3))
        scan = replace(
            scan,
            points=np.concatenate([points, stray]).astype(np.float32),
            on_face=np.concatenate([scan.on_face, np.zeros(len(ids), bool)]),
            colors=None if scan.colors is None else np.concatenate([scan.colors, scan.colors[ids]]),
        )
        return scan
    return replace(scan, points=points.astype(np.float32))


def _room(rng: np.random.Generator, density: float) -> np.ndarray:
    """A wall behind the person and, sometimes, a table with an object in front."""
    reach = float(np.exp(rng.uniform(np.log(250), np.log(1800))))
    count = int(np.clip(density * 2 * reach**2, 400, 7_000))
    tilt = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix()
    wall = np.stack([*rng.uniform(-reach, reach, (2, count)), rng.normal(0, 2, count)], axis=1)
    parts = [wall @ tilt.T + np.array([0, -40, -rng.uniform(110, 150 + reach)])]
    if rng.random() < 0.5:
        table = np.stack(
            [rng.uniform(-400, 400, count // 3), rng.normal(0, 1, count // 3), rng.uniform(-100, 350, count // 3)],
            axis=1,
        )
        parts.append(table + np.array([0, -rng.uniform(230, 420), 0]))
        box = _box(rng, rng.uniform(40, 260, 3), max(100, count // 8))
        parts.append(
            box + np.array([rng.choice([-1, 1]) * rng.uniform(150, 450), rng.uniform(-300, 0), rng.uniform(-200, 200)])
        )
    return np.concatenate(parts).astype(np.float32)


def _limbs(rng: np.random.Generator, density: float) -> np.ndarray:
    """Arms and legs of a standing person."""
    count = int(np.clip(density * 60_000, 200, 2_500))
    arms = [_tube(rng, np.array([s * 270.0, -220, -80]), rng.uniform(35, 55), 600.0, count=count) for s in (-1, 1)]
    legs = [_tube(rng, np.array([s * 100.0, -750, -80]), rng.uniform(60, 90), 800.0, count=count) for s in (-1, 1)]
    belly = _ellipsoid(rng, np.array([190.0, 320, 120]), 2 * count) + np.array([0, -500, -80])
    return np.concatenate([*arms, *legs, belly]).astype(np.float32)


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
