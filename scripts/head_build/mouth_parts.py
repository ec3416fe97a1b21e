"""Procedural teeth, gums and tongue: two arcs of teeth with gum strips, and a tongue behind the lower one.

Crown widths and heights follow dental anatomy tables (Ash & Nelson, *Wheeler's Dental Anatomy*), rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Central incisor to first molar, mm.
WIDTH = {"upper": (8.4, 6.6, 7.6, 7.0, 6.8, 9.8), "lower": (5.4, 5.9, 6.8, 7.0, 7.1, 10.6)}
HEIGHT = {"upper": (11.2, 10.2, 11.2, 9.8, 9.0, 8.2), "lower": (8.8, 8.8, 9.8, 8.6, 8.0, 7.4)}
DEPTH = {"upper": (5.5, 5.3, 6.5, 8.2, 8.4, 10.0), "lower": (5.0, 5.2, 6.4, 7.2, 7.8, 9.6)}
ARCH_END_RAD = 1.36
FRACTIONS = (0.0, 0.07, 0.22, 0.5, 0.78, 0.93)
EDGE_THICKNESS = (0.9, 0.9, 1.4, 3.8, 4.2, 6.0)  # of the biting edge


@dataclass(frozen=True, kw_only=True)
class Arch:
    """Where an arch lies: x = half_width sin φ, z = front_z − length (1 − cos φ), biting edges at edge_y (mm)."""

    half_width: float
    length: float
    front_z: float
    edge_y: float

    def outline(self, count: int = 400) -> np.ndarray:
        """(count, 3) points of (x, z, arc length) from the middle to the left end."""
        phi = np.linspace(0, ARCH_END_RAD, count)
        x, z = self.half_width * np.sin(phi), self.front_z - self.length * (1 - np.cos(phi))
        s = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
        return np.stack([x, z, s], axis=1)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A small mesh with its own UVs (one per vertex)."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def _columns(which: str) -> list[tuple[float, int, float]]:
    """(signed arc length share, tooth, position 0-1 within it) of every column, right end to left end."""
    half = []
    start = 0.0
    for tooth, width in enumerate(WIDTH[which]):
        half += [(start + f * width, tooth, f) for f in FRACTIONS]
        start += width
    half.append((start, len(WIDTH[which]) - 1, 1.0))
    return [(-s, t, f) for s, t, f in half[:0:-1]] + half


def _frame(arch: Arch, signed: float) -> tuple[np.ndarray, np.ndarray]:
    """Point (x, z) on the arch and outward normal there."""
    line = arch.outline()
    s = min(abs(signed), line[-1, 2])
    x, z = np.interp(s, line[:, 2], line[:, 0]), np.interp(s, line[:, 2], line[:, 1])
    normal = np.array([x / arch.half_width**2, (z - arch.front_z + arch.length) / arch.length**2])
    normal /= np.linalg.norm(normal)
    side = np.sign(signed) if signed else 1.0
    return np.array([side * x, z]), np.array([side * normal[0], normal[1]])


def _tube(profiles: np.ndarray, *, flip: bool) -> Part:
    """Close profiles (columns, points, 3) into a tube with end caps."""
    columns, points, _ = profiles.shape
    ids = np.arange(columns * points).reshape(columns, points)
    nxt = np.roll(ids, -1, axis=1)
    a, b, c, d = ids[:-1].ravel(), nxt[:-1].ravel(), nxt[1:].ravel(), ids[1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    fan = np.array([[0, k + 1, k] for k in range(1, points - 1)])
    faces = np.concatenate([faces, ids[0][fan], ids[-1][fan[:, ::-1]]])
    if flip:
        faces = faces[:, ::-1]
    u, v = np.meshgrid(np.linspace(0.01, 0.99, columns), np.linspace(0.01, 0.99, points), indexing="ij")
    return Part(vertices=profiles.reshape(-1, 3), faces=faces, uv=np.stack([u.ravel(), v.ravel()], axis=1))


def teeth(which: str, arch: Arch) -> tuple[Part, Part]:
    """(teeth, gum) of one arch; ``which`` is "upper" or "lower"."""
    up = 1.0 if which == "upper" else -1.0
    columns = _columns(which)
    share = arch.outline()[-1, 2] / columns[-1][0]  # the row fills the arch
    crown, gum = [], []
    for signed, tooth, f in columns:
        point, normal = _frame(arch, signed * share)
        round_ = 1 - (2 * f - 1) ** 4  # 1 in the tooth's middle, 0 in the groove
        bulge = 1 - (2 * f - 1) ** 2
        height, depth = HEIGHT[which][tooth], DEPTH[which][tooth]
        edge = EDGE_THICKNESS[tooth]
        corner = (0.9 if tooth < 3 else 0.5) * (1 - round_)  # biting corners are rounded
        tip = 0.7 * bulge if tooth == 2 else 0.0  # canines
        top = height - 0.9 * (1 - bulge)
        out = 0.55 * round_ + 0.35 * bulge - 0.6
        profile = [  # (outward, from the biting edge towards the gum)
            (out - 0.7, top), (out + 0.05, 0.6 * top), (out - 0.25, 0.25 * top), (out - 0.75, 0.5 + corner - tip),
            (out - 0.95 - 0.25 * edge, corner - tip), (out - 0.95 - edge, corner + 0.1 - tip),
            (-1.3 - edge - (1 - round_) * -0.4, 0.25 * top), (-depth * 0.85, 0.65 * top), (-depth, top),
        ]  # fmt: skip
        crown.append(_lift(profile, point, normal, arch.edge_y, up))
        strip = [
            (-0.75, top - 0.35), (-0.15, top + 0.5), (0.35, top + 2.2), (0.2, top + 5.0), (-2.5, top + 8.0),
            (-depth - 1.0, top + 5.0), (-depth - 0.6, top + 1.0), (-depth + 0.5, top - 0.2),
        ]  # fmt: skip
        gum.append(_lift(strip, point, normal, arch.edge_y, up))
    flip = which == "upper"
    return _tube(np.array(crown), flip=flip), _tube(np.array(gum), flip=flip)


def _lift(profile: list[tuple[float, float]], point: np.ndarray, normal: np.ndarray, edge_y: float, up: float) -> list:
    return [[point[0] + o * normal[0], edge_y + up * h, point[1] + o * normal[1]] for o, h in profile]


def tongue(*, half_width: float, tip_z: float, length: float, top_y: float, thickness: float) -> Part:
    """A flat rounded tongue, closed, tip towards +z, with a shallow middle groove."""
    rows, sectors = 14, 20
    theta = np.linspace(0, np.pi, rows + 1)[1:-1]
    phi = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    along = np.cos(t)  # 1 at the tip
    girth = np.sin(t) ** 0.75
    x, y = girth * np.cos(p), girth * np.sin(p)
    ring = np.stack([
        half_width * x, thickness / 2 * np.sign(y) * np.abs(y) ** 0.8, length / 2 * along
    ], axis=-1).reshape(-1, 3)  # fmt: skip
    points = np.concatenate([[[0, 0, length / 2]], ring, [[0, 0, -length / 2]]])
    groove = 0.9 * np.exp(-((points[:, 0] / 3.0) ** 2)) * (points[:, 1] > 0) * np.clip(1 - points[:, 2] / length, 0, 1)
    arch = 4.0 * (1 - (2 * points[:, 2] / length - 0.1) ** 2)  # the back of the tongue stands higher than its tip
    points[:, 1] += arch - groove
    points[:, 1] += top_y - points[:, 1].max()
    points[:, 2] += tip_z - length / 2
    last = len(points) - 1
    ids = 1 + np.arange((rows - 1) * sectors).reshape(rows - 1, sectors)
    nxt = np.roll(ids, -1, axis=1)
    a, b, c, d = ids[:-1].ravel(), nxt[:-1].ravel(), nxt[1:].ravel(), ids[1:].ravel()
    faces = np.concatenate([
        np.stack([np.zeros(sectors, int), ids[0], nxt[0]], 1), np.stack([a, d, c], 1), np.stack([a, c, b], 1),
        np.stack([np.full(sectors, last), nxt[-1], ids[-1]], 1),
    ])  # fmt: skip
    low, high = points.min(axis=0), points.max(axis=0)
    unit = (points - low) / (high - low)
    side = np.where(points[:, 1] >= points[:, 1].mean(), 0.0, 0.5)
    return Part(vertices=points, faces=faces, uv=np.stack([unit[:, 0] * 0.48 + side + 0.01, unit[:, 2]], axis=1))
