"""The seam of a scan's lips, and whether the mouth is closed, from the valley between the lips in the frontal depth.

A linear fit cannot tell a closed mouth from a slightly open one, and refinement along normals cannot close a mouth that the fit
left open. The frontal depth can tell: the seam is the valley that runs from corner to corner of the mouth. In an open mouth the
valley is a hole, with teeth or nothing behind it. The seam is therefore found in the depth, and the lips of the head model, as
they lie in the model's own closed mouth, are moved onto it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, grey_closing, map_coordinates, maximum_filter1d
from scipy.spatial import cKDTree

from omote.align.confirm import Located
from omote.align.surface import ScanSurface
from omote.geometry.camera import orbit_camera, transform
from omote.geometry.cloud import spacing
from omote.head.model import HeadModel, once_per_head
from omote.head.nicp import Ribbon
from omote.rendering.zbuffer import rasterize

HALF_WIDTH_MM, HALF_HEIGHT_MM = 36.0, 22.0  # half the size of the window around the mouth
CELL_MM = 0.4
LEAST_POINTS = 200
POINT_CELL, CLOUD_BLUR = 1.5, 0.7  # cell size in spacings of a cloud's points, and the blur of its depth in cells
SHALLOW_MM = 0.6  # a shallower valley is no seam
BEHIND_MM = 45.0  # depth kept behind the lips' landmarks
WINDOW_MM = 8.0  # distance above and below a seam within which its lips rise
DEPTH_MM = 4.0  # depth from which on a valley counts fully; some scans have a real slit between the lips
PRIOR_MM, LOST_MM = 4.0, 10.0  # expected distance of the seam from the landmarks, and if there is no valley near them
SLOPE = 1.0  # most cells up or down per column
BEND = 0.15  # cost of a step up or down
# Closed lips (6 scans) were at most 1.2 mm apart by this measure, open mouths (7) at least 7 mm, slightly parted lips 1.6 to
# 2 mm. The valleys of closed mouths were at most 4 mm deep, holes at least 8 mm.
JUMP_MM = 2.0  # change of depth within two cells that marks the edge of a lip with a tooth, or nothing, behind it
OPEN_GAP_MM, OPEN_DEPTH_MM = 1.4, 6.0
SLIT_CELLS = 3  # a slit narrower than this is no hole
LEAST_APART_MM = 3.0  # distance of the seam from the inner lips' landmarks from which on the outer lips' are off too
RIBBON_MM = 1.0  # half width of the strip of lip that is moved with its seam
RIBBON_WEIGHT = 2.0
LEAST_WEIGHT = 0.02
CORNER_FADE = 0.12  # share of the seam's length over which the movement fades out at either end
DISTANCE_MM = 20_000.0
INNER_LIPS = ([61, 62, 63], [67, 66, 65])  # upper, lower
MIN_EDGE = 20  # least number of points on an edge
INNER_UPPER, INNER_LOWER = slice(60, 65), (60, 67, 66, 65, 64)  # of the 68 landmarks, right to left


@dataclass(frozen=True, kw_only=True)
class Seam:
    """The line along which the lips meet, from the person's right corner of the mouth to the left one.

    Attributes:
        points_mm: points along the seam, evenly spaced in x.
        depth_mm: depth of the valley at each point, below the lower of its two lips.
        closed: whether the lips touch along the whole seam.
        edges_mm: edges of an open mouth, at points of the same x: the end of the upper lip and the beginning of the lower one.
    """

    points_mm: Float[np.ndarray, "n 3"]
    depth_mm: Float[np.ndarray, " n"]
    closed: bool
    edges_mm: Float[np.ndarray, "2 m 3"]


def find_seam(
    points_mm: Float[np.ndarray, "n 3"], faces: np.ndarray | None, landmarks_mm: Float[np.ndarray, "68 3"]
) -> Seam | None:
    """Find the seam; None if the scan shows none.

    Args:
        points_mm: points of the scan in the canonical frame.
        faces: triangles of the scan; None for a point cloud.
        landmarks_mm: landmarks of the scan or of a fit, near which the seam is searched.
    """
    middle = landmarks_mm[60:68].mean(axis=0)
    depth = _mesh_depth(points_mm, faces, middle) if faces is not None else _cloud_depth(points_mm, middle)
    if depth is None:
        return None
    x = middle[0] + (np.arange(depth.shape[1]) + 0.5) * CELL_MM - HALF_WIDTH_MM
    y = middle[1] + HALF_HEIGHT_MM - (np.arange(depth.shape[0]) + 0.5) * CELL_MM
    inner = (x > landmarks_mm[60, 0]) & (x < landmarks_mm[64, 0])
    if inner.sum() < 20:
        return None
    column = np.flatnonzero(inner)
    line = _prior(landmarks_mm, x)[column]
    valley, level = _valley(depth)
    row, deep = _followed(valley[:, column], y, line, PRIOR_MM)
    if np.median(deep) < SHALLOW_MM:
        # No valley near the landmarks: they may lie above or below the mouth by a lip's height.
        row, deep = _followed(valley[:, column], y, line, LOST_MM)
    if np.median(deep) < SHALLOW_MM:
        return None
    # The landmarks' line, moved onto the valley: where that is shallow, at the corners, it would draw the path out of it.
    line += np.median((y[row] - line)[deep > SHALLOW_MM])
    row, deep = _followed(valley[:, column], y, line, PRIOR_MM)
    slitless = _valley(grey_closing(depth, (SLIT_CELLS, 1)))[0][row, column]
    z = level[row, column] - np.minimum(deep, DEPTH_MM)
    points = np.stack([x[column], y[row], z], axis=1)
    gap, edges = _edges(depth, x, y, landmarks_mm)
    closed = gap <= OPEN_GAP_MM and bool(np.median(slitless) <= OPEN_DEPTH_MM)
    return Seam(points_mm=points, depth_mm=deep, closed=closed, edges_mm=edges)


def _followed(
    valley_mm: Float[np.ndarray, "h w"], y: Float[np.ndarray, " h"], line: Float[np.ndarray, " w"], sigma_mm: float
) -> tuple[np.ndarray, Float[np.ndarray, " w"]]:
    """Rows of the path along the deepest valley about ``line``, which is expected to be off by ``sigma_mm``; depth of each."""
    gain = np.minimum(valley_mm, DEPTH_MM) / DEPTH_MM - 0.5 * ((y[:, None] - line) / sigma_mm) ** 2
    row = _path(gain)
    return row, valley_mm[row, np.arange(len(row))]


def moved(seam: Seam, matrix: Float[np.ndarray, "4 4"]) -> Seam:
    """The seam in another frame."""
    edges = transform(matrix, seam.edges_mm.reshape(-1, 3)).reshape(seam.edges_mm.shape)
    return replace(seam, points_mm=transform(matrix, seam.points_mm), edges_mm=edges)


def scan_seam(head: HeadModel, surface: ScanSurface, found: Located) -> Seam | None:
    """The seam of a located face, in scan coordinates.

    Args:
        head: head model that was fitted to the face.
        surface: surface of the scan.
        found: the located face.
    """
    pose = found.fit.canonical_from_scan
    landmarks = transform(pose, found.landmarks)
    if not np.isfinite(landmarks[48:]).all():
        landmarks = head.landmarks(found.fit.vertices_mm)
    points = transform(pose, surface.points)
    # What no frame saw between closed lips would look like an open mouth in a fused mesh; the lips' own points tell.
    seam = find_seam(points, None if surface.gapped else surface.faces, landmarks)
    return None if seam is None else moved(seam, np.linalg.inv(pose))


def with_lips(head: HeadModel, found: Located, seam: Seam) -> Float[np.ndarray, "68 3"]:
    """The landmarks of a located face, with the inner lips' landmarks moved to where the depth shows the lips.

    In a closed mouth these lie as far above and below the seam as on the head model's own lips, in an open one on the lips'
    edges. Where a closed mouth is far from its landmarks, the outer lips' landmarks move with the inner ones'.

    Args:
        head: head model whose lips are fitted to the landmarks.
        found: the located face.
        seam: seam of the lips in scan coordinates.
    """
    own = model_seam(head)
    if own is None or not np.isfinite(found.landmarks).all():
        return found.landmarks
    pose = found.fit.canonical_from_scan
    scan, landmarks = moved(seam, pose), transform(pose, found.landmarks)
    if seam.closed:
        template = head.landmarks(head.template_mm.astype(np.float64))[60:]
        u = np.clip(_along(own, template), 0.0, 1.0)
        lips = _at(scan, u) + template - _at(own, u)
        apart = np.median(lips[:, 1] - landmarks[60:, 1])
        if abs(apart) > LEAST_APART_MM:
            landmarks[48:60, 1] += apart  # the whole mouth was found too high or too low
        landmarks[60:] = lips
    elif seam.edges_mm.shape[1] >= MIN_EDGE:
        for ids, edge in zip(INNER_LIPS, scan.edges_mm, strict=True):
            landmarks[ids] = np.stack([np.interp(landmarks[ids, 0], edge[:, 0], edge[:, c]) for c in range(3)], axis=1)
    out = found.landmarks.copy()
    out[48:] = transform(np.linalg.inv(pose), landmarks[48:])
    return out


def ribbon(seam: Seam, model: HeadModel) -> Ribbon | None:
    """Target positions of the vertices around the closed model's seam, so that its lips meet at the scan's seam; None if open.

    Args:
        seam: seam of the lips in the frame of the head that is refined.
        model: head model of the refined head.
    """
    own = model_seam(model)
    if own is None or not seam.closed:
        return None
    template = model.template_mm.astype(np.float64)
    lips = model.part_vertices("skin", "mouth")
    distance = cKDTree(own.points_mm).query(template[lips])[0]
    u = _along(own, template[lips])
    weight = RIBBON_WEIGHT * np.exp(-0.5 * (distance / RIBBON_MM) ** 2)
    weight *= np.clip(np.minimum(u, 1 - u) / CORNER_FADE, 0.0, 1.0)
    used = weight > LEAST_WEIGHT
    ids, u = lips[used], u[used]
    return Ribbon(vertices=ids, target_mm=_at(seam, u) + template[ids] - _at(own, u), weight=weight[used])


@once_per_head
def model_seam(model: HeadModel) -> Seam | None:
    """The seam of a head model's template."""
    return mesh_seam(model, model.template_mm)


def mesh_seam(model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Seam | None:
    """The seam of a head model's mesh, near the landmarks that the model has on it."""
    vertices = vertices_mm.astype(np.float64)
    skin = np.isin(model.faces, model.part_vertices("skin", "mouth")).all(axis=1)
    return find_seam(vertices, model.faces[skin], model.landmarks(vertices))


def _along(seam: Seam, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Position of points along a seam: 0 at its right end, 1 at its left end."""
    x = seam.points_mm[:, 0]
    return (points[:, 0] - x[0]) / (x[-1] - x[0])


def _at(seam: Seam, u: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Points of a seam at given positions along it."""
    own = np.linspace(0.0, 1.0, len(seam.points_mm))
    return np.stack([np.interp(u, own, seam.points_mm[:, c]) for c in range(3)], axis=1)


def _prior(landmarks: Float[np.ndarray, "68 3"], x: Float[np.ndarray, " w"]) -> Float[np.ndarray, " w"]:
    upper, lower = landmarks[INNER_UPPER], landmarks[list(INNER_LOWER)]
    line = (upper + lower) / 2
    order = np.argsort(line[:, 0])
    return np.interp(x, line[order, 0], line[order, 1])


def _edges(
    depth: Float[np.ndarray, "h w"],
    x: Float[np.ndarray, " w"],
    y: Float[np.ndarray, " h"],
    landmarks: Float[np.ndarray, "68 3"],
) -> tuple[float, Float[np.ndarray, "2 m 3"]]:
    """Median distance (mm) between the upper lip's edge and the lower lip's edge, and both edges."""
    right, left = landmarks[60, 0], landmarks[64, 0]
    middle = np.flatnonzero((x > right + 0.2 * (left - right)) & (x < left - 0.2 * (left - right)))
    # From inside the upper lip's border to inside the lower one's.
    rows = np.flatnonzero((y < landmarks[50:53, 1].mean() + 2.0) & (y > landmarks[56:59, 1].mean() - 2.0))
    if len(rows) < 4 or not len(middle):
        return 0.0, np.zeros((2, 0, 3))
    own = depth[rows[0] : rows[-1] + 1][:, middle]
    change = own[2:] - own[:-2]
    falls, rises = change < -JUMP_MM, change > JUMP_MM
    first, last = np.argmax(falls, axis=0), len(rises) - 1 - np.argmax(rises[::-1], axis=0)
    both = np.flatnonzero(falls.any(axis=0) & rises.any(axis=0) & (last > first))
    gap = np.zeros(len(middle))
    gap[both] = (last - first)[both] * CELL_MM
    # The last cell of the upper lip, and the first one of the lower.
    ends = (first[both], last[both] + 2)
    edges = [np.stack([x[middle[both]], y[rows[0] + end], own[end, both]], axis=1) for end in ends]
    return float(np.median(gap)), np.stack(edges)


def _valley(depth: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Depth of each cell below the lower of the highest cells above and below it, and the height of that cell."""
    reach = int(WINDOW_MM / CELL_MM)
    # A maximum over the cells on one side: a centred window, shifted.
    above = maximum_filter1d(depth, reach, axis=0, origin=(reach - 1) // 2, mode="nearest")
    below = maximum_filter1d(depth, reach, axis=0, origin=-(reach // 2), mode="nearest")
    level = np.minimum(above, below)
    return np.maximum(level - depth, 0.0), level


def _path(gain: Float[np.ndarray, "h w"]) -> np.ndarray:
    """Rows of the path from left to right with the largest sum of gains, at most `SLOPE` rows up or down per column."""
    height, width = gain.shape
    total, back = gain[:, 0].copy(), np.zeros((height, width), np.int64)
    padded = np.full(height + 2, -np.inf)
    for k in range(1, width):
        padded[1:-1] = total
        options = np.stack([padded[:-2] - BEND, padded[1:-1], padded[2:] - BEND])
        step = np.argmax(options, axis=0)
        back[:, k] = np.arange(height) + step - 1
        total = options[step, np.arange(height)] + gain[:, k]
    rows = np.zeros(width, np.int64)
    rows[-1] = int(np.argmax(total))
    for k in range(width - 1, 0, -1):
        rows[k - 1] = back[rows[k], k]
    return rows


def _mesh_depth(
    points: Float[np.ndarray, "n 3"], faces: np.ndarray, middle: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "h w"] | None:
    near = _near(points, middle, 2.0 * HALF_WIDTH_MM)
    used = faces[near[faces].any(axis=1)]
    if len(used) < 20:
        return None
    size = 2 * int(HALF_WIDTH_MM / CELL_MM)
    camera = orbit_camera(size=size, distance_mm=DISTANCE_MM, field_mm=2 * HALF_WIDTH_MM, target_mm=middle)
    raster = rasterize(camera, np.ascontiguousarray(points, np.float64), np.ascontiguousarray(used, np.int32))
    seen = raster.face_id >= 0
    z = np.where(seen, DISTANCE_MM + middle[2] - raster.depth_mm, middle[2] - BEHIND_MM).astype(np.float64)
    cut = int((HALF_WIDTH_MM - HALF_HEIGHT_MM) / CELL_MM)
    return np.maximum(z, middle[2] - BEHIND_MM)[cut : size - cut]


def _cloud_depth(points: Float[np.ndarray, "n 3"], middle: Float[np.ndarray, "3"]) -> Float[np.ndarray, "h w"] | None:
    own = points[_near(points, middle, HALF_WIDTH_MM)]
    if len(own) < LEAST_POINTS:
        return None
    # Cells are as fine as the points are dense: a cell without skin points would show points of the mouth's inside.
    cell = max(CELL_MM, POINT_CELL * spacing(own))
    height, width = int(2 * HALF_HEIGHT_MM / cell), int(2 * HALF_WIDTH_MM / cell)
    row = np.floor((middle[1] + HALF_HEIGHT_MM - own[:, 1]) / cell).astype(int)
    column = np.floor((own[:, 0] - middle[0] + HALF_WIDTH_MM) / cell).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    front = np.full(height * width, -np.inf)
    np.maximum.at(front, row[inside] * width + column[inside], own[inside, 2])
    known: Bool[np.ndarray, "h w"] = np.isfinite(front).reshape(height, width)
    share = gaussian_filter(known.astype(np.float64), CLOUD_BLUR)
    filled = gaussian_filter(np.where(known, front.reshape(height, width), 0.0), CLOUD_BLUR)
    coarse = np.where(share > 0.05, filled / np.maximum(share, 1e-9), middle[2] - BEHIND_MM)
    fine = [
        (np.arange(2 * int(half / CELL_MM)) + 0.5) * CELL_MM / cell - 0.5 for half in (HALF_HEIGHT_MM, HALF_WIDTH_MM)
    ]
    out: Float[np.ndarray, "h w"] = map_coordinates(coarse, np.meshgrid(*fine, indexing="ij"), order=1, mode="nearest")
    return out


def _near(points: Float[np.ndarray, "n 3"], middle: Float[np.ndarray, "3"], reach_mm: float) -> Bool[np.ndarray, " n"]:
    out: Bool[np.ndarray, " n"] = (np.abs(points[:, :2] - middle[:2]) < reach_mm).all(axis=1) & (
        points[:, 2] > middle[2] - BEHIND_MM
    )
    return out
