"""Two small networks on geometry alone: one finds faces in views of a whole scan, one places 68 landmarks on a face.

The finder reads views from all around (`views.geometry_image`) and tells per 8 × 8 pixel cell whether a face's centre is
there, its size and its rotation (6D, Zhou et al., CVPR 2019; centres as in Zhou et al., "Objects as Points", 2019). The
landmark network reads one roughly frontal view and gives integral 3D coordinates (Sun et al., ECCV 2018) with a Laplace
scale each, its confidence. Both are trained on the population (`omote.tools.landmarks`); no real scan was used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from omote.align.views import CHANNELS, geometry_image, robust_ball, sphere_directions, view_rotation
from omote.errors import CheckpointError
from omote.files import reading

Item = TypeVar("Item")
Result = TypeVar("Result")

WEIGHTS = Path(__file__).parent / "weights" / "landmarks.safetensors"
FINDER_SIZE, FINDER_STRIDE = 128, 8
LANDMARK_SIZE, LANDMARK_WINDOW_MM = 96, 240.0
FACE_SIZE_MM = 130.0  # what "size" means: this length at the face, in pixels of a view
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
        """Raw outputs; see `FINDER_OUTPUTS`."""
        return self.net(views)


class LandmarkNet(nn.Module):
    """One roughly frontal view → 68 points in [-1, 1]³ (half the window is 1; OpenCV axes) and log Laplace scales."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(_patches(CHANNELS, width), _block(width, width))
        self.down1 = nn.Sequential(_block(width, width, stride=2), _Residual(width))
        self.down2 = nn.Sequential(_block(width, width, stride=2), _Residual(width), _Residual(width))
        self.up1, self.up0 = _Residual(width), _block(width, width)
        self.heat = nn.Conv2d(width, 68, 1)
        self.depth = nn.Conv2d(width, 68, 1)
        self.scale = nn.Linear(width, 68)

    def forward(self, views: Float[Tensor, "b 5 h w"]) -> tuple[Float[Tensor, "b 68 3"], Float[Tensor, "b 68"]]:
        """Points and log scales."""
        x0 = self.stem(views)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        y = self.up1(x1 + F.interpolate(x2, scale_factor=2.0, mode="bilinear"))
        y = self.up0(x0 + F.interpolate(y, scale_factor=2.0, mode="bilinear"))
        heat = self.heat(y).flatten(2).softmax(dim=2)
        n = y.shape[-1]
        # The grid reaches a little beyond the picture, since a soft maximum cannot reach its rim.
        line = torch.linspace(-1.15, 1.15, n, dtype=y.dtype, device=y.device)
        v, u = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack(
            [(heat * u.flatten()).sum(2), (heat * v.flatten()).sum(2), (heat * self.depth(y).flatten(2)).sum(2)], dim=2
        )
        return points, self.scale(x2.mean(dim=(2, 3))) - 3.0


@dataclass(frozen=True, kw_only=True)
class LandmarkNetworks:
    """Both networks, ready to infer."""

    finder: FaceFinder
    landmarks: LandmarkNet


@lru_cache(maxsize=2)
def load_landmark_networks(path: Path = WEIGHTS) -> LandmarkNetworks:
    """The shipped networks.

    Raises:
        CheckpointError: missing or of another architecture.
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
    """A face found in some view.

    Attributes:
        score: [0, 1].
        canonical_from_scan: similarity, as coarse as the finder is.
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
        """`FACE_SIZE_MM` in scan units."""
        return FACE_SIZE_MM / float(np.cbrt(np.linalg.det(self.canonical_from_scan[:3, :3])))


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of each item, a thread per core.

    Calls this short gain nothing from torch's own threads, and beside other work those wait longer than they compute.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(before)


def find_faces(
    points: Float[np.ndarray, "n 3"],
    networks: LandmarkNetworks,
    *,
    num_views: int = 48,
    most: int = 24,
    min_score: float = 0.05,
) -> list[Candidate]:
    """Candidate faces of a scan in any pose and unit, best first."""
    center, radius = robust_ball(points)
    scale = FINDER_SIZE / (2 * radius)
    local = ((points - center) * scale).astype(np.float32)
    rotations = [view_rotation(d) for d in sphere_directions(num_views)]

    def look(some: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        images, depths = zip(
            *(geometry_image(local @ r.T.astype(np.float32) + _MIDDLE, FINDER_SIZE) for r in some), strict=True
        )
        with torch.inference_mode():
            return networks.finder(torch.from_numpy(np.stack(images))).numpy(), list(depths)

    chunks = [rotations[i : i + VIEWS_AT_ONCE] for i in range(0, num_views, VIEWS_AT_ONCE)]
    outs, depth_lists = zip(*in_parallel(look, chunks), strict=True)
    out, depths = np.concatenate(outs), [d for depths in depth_lists for d in depths]
    score = 1 / (1 + np.exp(-np.clip(out[:, 0], -30, 30)))
    found = []
    for flat in np.argsort(-score.ravel())[: 4 * most]:
        k, row, column = np.unravel_index(flat, score.shape)
        if score[k, row, column] < min_score:
            break
        cell = out[k, :, row, column]
        uv = (np.array([column, row]) + 0.5 + cell[1:3]) * FINDER_STRIDE
        size_px = float(np.exp(np.clip(cell[3], -1.5, 1.5))) * SIZE_UNIT_PX
        rotation = orthonormal(cell[4:10])
        mm_per_px = FACE_SIZE_MM / size_px
        # The face's centre lies behind the visible surface, as far as in the mean head.
        depth = _depth_near(depths[k], uv)
        if depth is None:
            continue
        center_px = np.array([uv[0], uv[1], depth + 18.0 / mm_per_px]) - _MIDDLE
        to_canonical = np.eye(4)
        to_canonical[:3, :3] = mm_per_px * scale * rotation.T @ rotations[k]
        middle = center + rotations[k].T @ center_px / scale
        to_canonical[:3, 3] = FACE_CENTER_MM - to_canonical[:3, :3] @ middle
        found.append(Candidate(score=float(score[k, row, column]), canonical_from_scan=to_canonical))
    return _suppress(found, most)


SIZE_UNIT_PX = 28.0
VIEWS_AT_ONCE = 8
_MIDDLE = np.array([FINDER_SIZE / 2, FINDER_SIZE / 2, 0.0], np.float32)


def orthonormal(six: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """The rotation whose first two columns are nearest to the given ones (Gram-Schmidt)."""
    a, b = six[:3].astype(np.float64), six[3:].astype(np.float64)
    a = a / max(float(np.linalg.norm(a)), 1e-9)
    b = b - a * (a @ b)
    b = b / max(float(np.linalg.norm(b)), 1e-9)
    return np.stack([a, b, np.cross(a, b)], axis=1)


def _depth_near(depth: Float[np.ndarray, "h w"], uv: Float[np.ndarray, "2"]) -> float | None:
    u, v = np.clip(uv.astype(int), 2, FINDER_SIZE - 3)
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
    points: Float[np.ndarray, "n 3"], canonical_from_scan: Float[np.ndarray, "4 4"], networks: LandmarkNetworks
) -> tuple[Float[np.ndarray, "68 3"], Float[np.ndarray, " 68"]]:
    """Landmarks in scan coordinates and their Laplace scales in mm, from the view that a pose estimate calls frontal."""
    mm = points @ canonical_from_scan[:3, :3].T + canonical_from_scan[:3, 3]
    px_per_mm = LANDMARK_SIZE / LANDMARK_WINDOW_MM
    reach = 0.8 * LANDMARK_WINDOW_MM
    near = (np.abs(mm - FACE_CENTER_MM) < reach).all(axis=1)
    view = (mm[near] - FACE_CENTER_MM) * np.array([1.0, -1.0, -1.0]) * px_per_mm
    image, _ = geometry_image(view + np.array([LANDMARK_SIZE / 2, LANDMARK_SIZE / 2, 0.0]), LANDMARK_SIZE)
    with torch.inference_mode():
        unit, log_scale = networks.landmarks(torch.from_numpy(image)[None])
    half = LANDMARK_WINDOW_MM / 2
    found = unit[0].numpy().astype(np.float64) * half * np.array([1.0, -1.0, -1.0]) + FACE_CENTER_MM
    inverse = np.linalg.inv(canonical_from_scan)
    return found @ inverse[:3, :3].T + inverse[:3, 3], np.exp(log_scale[0].numpy().astype(np.float64)) * half
