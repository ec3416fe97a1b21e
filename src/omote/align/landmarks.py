"""Two small networks that read geometry: one finds faces in views of a whole scan, the other places 68 landmarks on a face.

The finder reads views from all around (`views.geometry_image`) and predicts for each cell of 8 × 8 pixels whether a face's
centre lies there, and the face's size and rotation (6D, Zhou et al., CVPR 2019; centres as in Zhou et al., "Objects as
Points", 2019). The landmark network reads one roughly frontal view and predicts integral 3D coordinates (Sun et al., ECCV
2018), each with a Laplace scale as its confidence. Both are trained on the synthetic population (`omote.tools.landmarks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from omote.align.surface import ScanSurface
from omote.align.views import (
    CHANNELS,
    COLOR_CHANNELS,
    DEPTH_REACH_PX,
    View,
    color_planes,
    geometry_view,
    large_parts,
    robust_ball,
    sphere_directions,
    view_rotation,
)
from omote.cores import thread_pool
from omote.errors import CheckpointError
from omote.files import reading

Item = TypeVar("Item")
Result = TypeVar("Result")

WEIGHTS = Path(__file__).parent / "weights" / "landmarks.safetensors"
FINDER_SIZE, FINDER_STRIDE = 128, 8
LANDMARK_SIZE, LANDMARK_WINDOW_MM = 128, 240.0
FACE_SIZE_MM = 130.0  # the length that counts as a face's size, measured in pixels of a view
# The window's centre in the canonical frame: the middle of the face's landmarks.
FACE_CENTER_MM = np.array([0.0, -35.0, 15.0])
FINDER_OUTPUTS = 1 + 2 + 1 + 6  # score, centre offset in cells, log size, rotation's first two columns


def _block(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _patches(inputs: int, outputs: int) -> nn.Sequential:
    """Non-overlapping 4 × 4 patches: on a CPU far cheaper than two strided layers at full size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, stride=4, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(width, width, dilation=dilation), _block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FaceFinder(nn.Module):
    """Views → per-cell face score and pose."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _patches(CHANNELS, 32), _block(32, width, stride=2),
            _Residual(width), _Residual(width, 2), _Residual(width, 3), _Residual(width),
            nn.Conv2d(width, FINDER_OUTPUTS, 1),
        )  # fmt: skip
        last = self.net[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], -4.0)  # faces are rare

    def forward(self, views: Float[Tensor, "b 5 h w"]) -> Float[Tensor, "b 10 h8 w8"]:
        """Raw outputs, laid out as in `FINDER_OUTPUTS`."""
        return self.net(views)


class LandmarkNet(nn.Module):
    """One roughly frontal view → 68 points in [-1, 1]³ (half the window is 1; OpenCV axes) and log Laplace scales."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(_patches(CHANNELS + COLOR_CHANNELS, width), _block(width, width))
        self.down1 = nn.Sequential(_block(width, width, stride=2), _Residual(width))
        self.down2 = nn.Sequential(_block(width, width, stride=2), _Residual(width), _Residual(width))
        self.up1, self.up0 = _Residual(width), _block(width, width)
        self.heat = nn.Conv2d(width, 68, 1)
        self.depth = nn.Conv2d(width, 68, 1)
        self.scale = nn.Linear(width, 68)

    def forward(self, views: Float[Tensor, "b 9 h w"]) -> tuple[Float[Tensor, "b 68 3"], Float[Tensor, "b 68"]]:
        """Points and log scales; the soft maximum is computed in float32, whatever the convolutions use."""
        x0 = self.stem(views)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        y = self.up1(x1 + F.interpolate(x2, scale_factor=2.0, mode="bilinear"))
        y = self.up0(x0 + F.interpolate(y, scale_factor=2.0, mode="bilinear"))
        heat, depth = self.heat(y).float().flatten(2).softmax(dim=2), self.depth(y).float().flatten(2)
        n = y.shape[-1]
        # The grid reaches a little beyond the picture, since a soft maximum cannot reach its rim.
        line = torch.linspace(-1.15, 1.15, n, dtype=heat.dtype, device=y.device)
        v, u = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack([(heat * u.flatten()).sum(2), (heat * v.flatten()).sum(2), (heat * depth).sum(2)], dim=2)
        return points, self.scale(x2.mean(dim=(2, 3))).float() - 3.0


@dataclass(frozen=True, kw_only=True)
class LandmarkNetworks:
    """Both networks, ready for inference."""

    finder: FaceFinder
    landmarks: LandmarkNet


@lru_cache(maxsize=2)
def load_landmark_networks(path: Path = WEIGHTS) -> LandmarkNetworks:
    """Load the shipped networks.

    Raises:
        CheckpointError: the weights are missing or of another architecture.
    """
    from safetensors.torch import load_file

    with reading(path, CheckpointError, "the landmark networks do not load", "reinstall omote"):
        state = load_file(path)
        networks = LandmarkNetworks(finder=FaceFinder(), landmarks=LandmarkNet())
        for name in ("finder", "landmarks"):
            net: nn.Module = getattr(networks, name)
            own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in own.items()})
            net.eval()
    return networks


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate face found in a view.

    Attributes:
        score: score of the finder, in [0, 1].
        canonical_from_scan: estimated similarity, as coarse as the finder's cells.
    """

    score: float
    canonical_from_scan: Float[np.ndarray, "4 4"]

    @property
    def center(self) -> Float[np.ndarray, "3"]:
        """The face's centre in scan coordinates."""
        inverse = np.linalg.inv(self.canonical_from_scan)
        return inverse[:3, :3] @ FACE_CENTER_MM + inverse[:3, 3]

    @property
    def size(self) -> float:
        """The face's size (`FACE_SIZE_MM`) in scan units."""
        return FACE_SIZE_MM / float(np.cbrt(np.linalg.det(self.canonical_from_scan[:3, :3])))


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``function`` to each item, with one thread per core.

    Calls this short gain nothing from torch's own threads, which under load wait longer than they compute.
    """
    before = torch.get_num_threads()
    try:
        with thread_pool(initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a scan, seen from several directions at one scale.

    Attributes:
        center: centre of the part in scan coordinates.
        px_per_unit: pixels per scan unit.
        size_px: width and height of its views, at least `FINDER_SIZE`; larger views are cut into tiles of that size.
        rotations: rotation into the camera of each view.
    """

    center: Float[np.ndarray, "3"]
    px_per_unit: float
    size_px: int
    rotations: Sequence[Float[np.ndarray, "3 3"]]


def whole_windows(surface: ScanSurface, *, num_views: int = 48, finer: int = 1) -> list[Window]:
    """A window for each large connected part of a scan, seen from all around, or from a depth camera's side.

    Args:
        surface: surface of the scan.
        num_views: total number of directions.
        finer: magnification; a face that spans a twentieth of a scan is visible at 2 but not at 1.
    """
    size = FINDER_SIZE * finer
    parts = large_parts(surface.coarse)
    windows = []
    for points in parts:
        center, radius = robust_ball(points)
        rotations = _rotations(surface, max(num_views // len(parts), 24))
        windows.append(Window(center=center, px_per_unit=size / (2 * radius), size_px=size, rotations=rotations))
    return windows


def metric_window(surface: ScanSurface, mm_per_unit: float) -> Window:
    """A window over a whole scan of known unit, at the scale at which the finder is most reliable.

    Args:
        surface: surface of the scan.
        mm_per_unit: scale of the scan's unit.
    """
    center, radius = robust_ball(surface.coarse)
    px_per_unit = METRIC_FACE_PX / FACE_SIZE_MM * mm_per_unit
    size = int(np.clip(2 * radius * px_per_unit, FINDER_SIZE, MOST_PX))
    return Window(
        center=center, px_per_unit=px_per_unit, size_px=size, rotations=_rotations(surface, 24, CAMERA_VIEW_COS)
    )


def _rotations(surface: ScanSurface, count: int, least_cosine: float = 0.4) -> list[Float[np.ndarray, "3 3"]]:
    directions = sphere_directions(count)
    if surface.toward_camera is not None:
        seen = directions[directions @ surface.toward_camera > least_cosine]
        directions = np.concatenate([surface.toward_camera[None], seen])
    return [view_rotation(d) for d in directions]


def find_faces(
    points: Float[np.ndarray, "n 3"],
    windows: Sequence[Window],
    networks: LandmarkNetworks,
    *,
    most: int = 24,
    min_score: float = 0.05,
) -> list[Candidate]:
    """Candidate faces of a scan in any pose, best first.

    Args:
        points: points of the scan.
        windows: windows to search.
        networks: the finder and the landmark network.
        most: largest number of candidates.
        min_score: smallest accepted score of the finder.
    """
    views = [(window, rotation) for window in windows for rotation in window.rotations]

    def look(some: Sequence[tuple[Window, np.ndarray]]) -> list[tuple[float, Candidate]]:
        return [found for window, rotation in some for found in _look(points, window, rotation, networks, min_score)]

    chunks = [views[i : i + VIEWS_AT_ONCE] for i in range(0, len(views), VIEWS_AT_ONCE)]
    found = [one for some in in_parallel(look, chunks) for one in some]
    found.sort(key=lambda item: -item[0])
    return _suppress([candidate for _, candidate in found[: 4 * most]], most)


def _look(
    points: Float[np.ndarray, "n 3"],
    window: Window,
    rotation: Float[np.ndarray, "3 3"],
    networks: LandmarkNetworks,
    min_score: float,
) -> list[tuple[float, Candidate]]:
    """Score and candidate of each cell of a view that may contain a face's centre."""
    middle = np.array([window.size_px / 2, window.size_px / 2, 0.0], np.float32)
    local = ((points - window.center) * window.px_per_unit).astype(np.float32)
    view = geometry_view(local @ rotation.T.astype(np.float32) + middle, window.size_px)
    corners = _tiles(view.depth_px)
    if not corners:
        return []
    tiles = np.stack([_tile(view, row, column, len(corners) > 1) for row, column in corners])
    with torch.inference_mode():
        outs = networks.finder(torch.from_numpy(tiles)).numpy()
    scores = 1 / (1 + np.exp(-np.clip(outs[:, 0], -30, 30)))
    found = []
    for tile, i, j in zip(*np.nonzero(scores >= min_score), strict=True):
        cell, (top, left) = outs[tile, :, i, j], corners[tile]
        uv = (np.array([j, i]) + 0.5 + cell[1:3]) * FINDER_STRIDE + np.array([left, top])
        mm_per_px = FACE_SIZE_MM / (float(np.exp(np.clip(cell[3], -1.5, 1.5))) * SIZE_UNIT_PX)
        depth = _depth_near(view.depth_px, uv)
        if depth is None:
            continue
        # The face's centre lies behind the visible surface, as far as in the mean head.
        center_px = np.array([uv[0], uv[1], depth + 18.0 / mm_per_px]) - middle
        pose = np.eye(4)
        pose[:3, :3] = mm_per_px * window.px_per_unit * orthonormal(cell[4:10]).T @ rotation
        pose[:3, 3] = FACE_CENTER_MM - pose[:3, :3] @ (window.center + rotation.T @ center_px / window.px_per_unit)
        score = float(scores[tile, i, j])
        found.append((score, Candidate(score=score, canonical_from_scan=pose)))
    return found


def _tiles(depth_px: Float[np.ndarray, "h w"]) -> list[tuple[int, int]]:
    """Upper left corners (row, column) of overlapping tiles that contain surface."""
    size = len(depth_px)
    count = 1 + -(-(size - FINDER_SIZE) // TILE_STEP)
    starts = np.linspace(0, size - FINDER_SIZE, count).astype(int)
    seen = np.isfinite(depth_px)
    return [
        (int(row), int(column))
        for row in starts
        for column in starts
        if seen[row : row + FINDER_SIZE, column : column + FINDER_SIZE].sum() >= LEAST_SEEN_PX
    ]


def _tile(view: View, row: int, column: int, of_many: bool) -> Float[np.ndarray, "5 h w"]:
    """A tile's planes; in a larger view, depth is measured from the middle of the tile's own surface."""
    part = (slice(row, row + FINDER_SIZE), slice(column, column + FINDER_SIZE))
    planes = view.planes[(slice(None), *part)]
    if of_many:
        depth = view.depth_px[part]
        seen = np.isfinite(depth)
        planes = planes.copy()
        planes[3][seen] = np.clip((depth[seen] - np.median(depth[seen])) / DEPTH_REACH_PX, -1, 1)
    return planes


SIZE_UNIT_PX = 28.0
VIEWS_AT_ONCE = 4
TILE_STEP = 88  # px; a face at a tile's edge is whole in the next tile
LEAST_SEEN_PX = 120
METRIC_FACE_PX = 32.0
MOST_PX = 768
CAMERA_VIEW_COS = 0.75


def orthonormal(six: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """The rotation whose first two columns are nearest to the given ones (Gram-Schmidt)."""
    a, b = six[:3].astype(np.float64), six[3:].astype(np.float64)
    a = a / max(float(np.linalg.norm(a)), 1e-9)
    b = b - a * (a @ b)
    b = b / max(float(np.linalg.norm(b)), 1e-9)
    return np.stack([a, b, np.cross(a, b)], axis=1)


def _depth_near(depth: Float[np.ndarray, "h w"], uv: Float[np.ndarray, "2"]) -> float | None:
    u, v = np.clip(uv.astype(int), 2, len(depth) - 3)
    patch = depth[v - 2 : v + 3, u - 2 : u + 3]
    seen = np.isfinite(patch)
    return float(np.median(patch[seen])) if seen.any() else None


def _suppress(found: list[Candidate], most: int) -> list[Candidate]:
    """Non-maximum suppression by place and direction."""
    kept: list[Candidate] = []
    for c in found:
        front = c.canonical_from_scan[2, :3] / np.linalg.norm(c.canonical_from_scan[2, :3])
        up = c.canonical_from_scan[1, :3] / np.linalg.norm(c.canonical_from_scan[1, :3])
        same = False
        for other in kept:
            m = other.canonical_from_scan
            near = np.linalg.norm(c.center - other.center) < 0.6 * max(c.size, other.size)
            alike = front @ m[2, :3] / np.linalg.norm(m[2, :3]) > 0.8 and up @ m[1, :3] / np.linalg.norm(m[1, :3]) > 0.8
            same |= bool(near and alike)
        if not same:
            kept.append(c)
        if len(kept) == most:
            break
    return kept


def predict_landmarks(
    surface: ScanSurface, canonical_from_scan: Float[np.ndarray, "4 4"], networks: LandmarkNetworks
) -> tuple[Float[np.ndarray, "68 3"], Float[np.ndarray, " 68"]]:
    """Landmarks in scan coordinates and their Laplace scales in mm, from the frontal view of an estimated pose.

    Args:
        surface: surface of the scan.
        canonical_from_scan: estimated pose.
        networks: the finder and the landmark network.
    """
    points, colors = surface.shown(canonical_from_scan)
    mm = points @ canonical_from_scan[:3, :3].T + canonical_from_scan[:3, 3]
    px_per_mm = LANDMARK_SIZE / LANDMARK_WINDOW_MM
    near = (np.abs(mm - FACE_CENTER_MM) < 0.8 * LANDMARK_WINDOW_MM).all(axis=1)
    pixels = (mm[near] - FACE_CENTER_MM) * np.array([1.0, -1.0, -1.0]) * px_per_mm
    view = geometry_view(pixels + np.array([LANDMARK_SIZE / 2, LANDMARK_SIZE / 2, 0.0]), LANDMARK_SIZE)
    planes = np.concatenate([view.planes, color_planes(view, None if colors is None else colors[near])])
    with torch.inference_mode():
        unit, log_scale = networks.landmarks(torch.from_numpy(planes)[None])
    half = LANDMARK_WINDOW_MM / 2
    found = unit[0].numpy().astype(np.float64) * half * np.array([1.0, -1.0, -1.0]) + FACE_CENTER_MM
    inverse = np.linalg.inv(canonical_from_scan)
    return found @ inverse[:3, :3].T + inverse[:3, 3], np.exp(log_scale[0].numpy().astype(np.float64)) * half
