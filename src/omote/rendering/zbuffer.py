"""A z-buffer for triangle meshes: which face, where in it, and how far, for every pixel.

Rasterisation is homogeneous (Olano & Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997): with a
triangle's corners v_i = K X_i as columns and a pixel p = (u, v, 1), the system p / z⁻¹ = Σ b_i v_i gives
λ_i = b_i / z = p·(v_j × v_k) / det. So 1/z = Σ λ_i, b_i = λ_i z is perspective-correct, the pixel is inside where every
λ_i ≥ 0, and triangles that cross the near plane need no cutting: the test z ≥ near is per pixel. The edge function of two
neighbours is the same product with the opposite sign, so shared edges leave no gaps.

One image runs on one thread and releases the GIL; populations parallelise over images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from omote.compiled import kernel
from omote.types import Camera

NEAR_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Raster:
    """What each pixel's centre sees.

    Attributes:
        face_id: the nearest face, -1 for none.
        barycentric: perspective-correct weights of the face's three corners; 0 for none.
        depth_mm: z-depth; 0 for none.
    """

    face_id: Int[np.ndarray, "height width"]
    barycentric: Float[np.ndarray, "height width 3"]
    depth_mm: Float[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What `rasterize_samples` sees: surfaces at several samples per pixel, depth at its centre.

    Attributes:
        face_id: the nearest face at each sample, -1 for none; the camera's image times the samples per side.
        barycentric: perspective-correct weights of its corners; 0 for none.
        depth_mm: z-depth at pixel centres; 0 for none.
    """

    face_id: Int[np.ndarray, "sample_rows sample_columns"]
    barycentric: Float[np.ndarray, "sample_rows sample_columns 3"]
    depth_mm: Float[np.ndarray, "height width"]


def rasterize(
    camera: Camera,
    vertices_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    *,
    cull_back: bool = False,
    near_mm: float = NEAR_MM,
    supersample: int = 1,
) -> Raster:
    """Rasterise a mesh.

    Args:
        camera: pixel centres lie at integer + 0.5.
        vertices_mm: world frame.
        faces: counter-clockwise from outside.
        cull_back: leave out faces seen from behind.
        near_mm: nothing nearer is seen.
        supersample: samples per pixel and side; the raster is that many times larger than the camera's image.
    """
    screen = to_screen(camera, vertices_mm, supersample)
    return fill(screen, faces, camera.height * supersample, camera.width * supersample, near_mm, cull_back)


def rasterize_samples(
    camera: Camera,
    vertices_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    *,
    supersample: int,
    near_mm: float = NEAR_MM,
) -> Samples:
    """Two calls of `rasterize`, at ``supersample`` and at 1, in one walk over the faces.

    Equal to them bit by bit where ``supersample`` is a power of two, and a third faster.
    """
    screen = to_screen(camera, vertices_mm, supersample)
    depth = np.empty((camera.height, camera.width), np.float32)
    face_id, barycentric = _filled(
        screen, faces, (camera.height * supersample, camera.width * supersample), near_mm, False, depth
    )
    return Samples(face_id=face_id, barycentric=barycentric, depth_mm=depth)


def fill(
    screen: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    height: int,
    width: int,
    near_mm: float = NEAR_MM,
    cull_back: bool = False,
) -> Raster:
    """`rasterize` for vertices that are on the screen already.

    Args:
        screen: homogeneous pixels (u z, v z, z).
        faces: counter-clockwise from outside.
        height: pixels.
        width: pixels.
        near_mm: nothing nearer is seen.
        cull_back: leave out faces seen from behind.
    """
    depth = np.empty((height, width), np.float32)
    face_id, barycentric = _filled(screen, faces, (height, width), near_mm, cull_back, depth)
    return Raster(face_id=face_id, barycentric=barycentric, depth_mm=depth)


def to_screen(camera: Camera, vertices_mm: Float[np.ndarray, "v 3"], supersample: int = 1) -> Float[np.ndarray, "v 3"]:
    """Homogeneous pixels (u z, v z, z) of world points."""
    m = np.diag([supersample, supersample, 1.0]) @ camera.intrinsics @ camera.cam_from_world[:3]
    out = np.empty((len(vertices_mm), 3))
    _transform(np.ascontiguousarray(vertices_mm, np.float64), m, out)
    return out


def vertices_used(
    face_id: Int[np.ndarray, "height width"], faces: Int[np.ndarray, "f 3"], num_vertices: int
) -> Bool[np.ndarray, " v"]:
    """Tell which vertices belong to a face that a raster shows."""
    used = np.zeros(num_vertices, np.bool_)
    _mark_used(face_id, faces, used)
    return used


def _filled(
    screen: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    size: tuple[int, int],
    near_mm: float,
    cull_back: bool,
    depth: Float[np.ndarray, "rows columns"],
) -> tuple[Int[np.ndarray, "height width"], Float[np.ndarray, "height width 3"]]:
    """(face, barycentric weights) of each sample; ``depth``, of that size or a whole fraction of it, is filled too."""
    face_id = np.full(size, -1, np.int32)
    barycentric = np.zeros((*size, 3), np.float32)
    central = np.zeros((0, 0) if depth.shape == size else depth.shape)
    place = np.empty((len(screen), 2))
    faces = np.ascontiguousarray(faces, np.int32)
    _fill(screen, place, faces, near_mm, cull_back, np.zeros(size), central, face_id, barycentric, depth)
    return face_id, barycentric


# Arrays are made outside of kernels: each kind of array that one makes takes numba a tenth of a second to compile.
@kernel(error_model="numpy")
def _fill(
    screen: np.ndarray,
    place: np.ndarray,
    faces: np.ndarray,
    near: float,
    cull_back: bool,
    inverse: np.ndarray,
    central: np.ndarray,
    face_id: np.ndarray,
    barycentric: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Fill the last three arguments.

    ``inverse`` and ``central`` hold 1/z of the nearest so far, per sample and at pixel centres; 0 is infinitely far.
    """
    height, width = inverse.shape
    has_central = len(central) > 0
    per_side = height // len(central) if has_central else 1
    nearest_allowed = 1.0 / near
    half, step = 0.5 * per_side, float(per_side)
    per_sample = 1.0 / step

    # Bounds need both coordinates of a vertex at once: one array keeps them on one cache line.
    for i in range(len(screen)):
        z = screen[i, 2]
        if z >= near:
            place[i, 0], place[i, 1] = screen[i, 0] / z, screen[i, 1] / z

    for f in range(len(faces)):
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        z0, z1, z2 = screen[i0, 2], screen[i1, 2], screen[i2, 2]
        if z0 >= near and z1 >= near and z2 >= near:
            u0, u1, u2 = place[i0, 0], place[i1, 0], place[i2, 0]
            v0, v1, v2 = place[i0, 1], place[i1, 1], place[i2, 1]
            u_lo, u_hi = min(u0, u1, u2), max(u0, u1, u2)
            v_lo, v_hi = min(v0, v1, v2), max(v0, v1, v2)
            nearest = 1.000000001 / min(z0, z1, z2)  # above the largest 1/z that rounding may give
        elif z0 < near and z1 < near and z2 < near:
            continue
        else:
            u_lo, u_hi, v_lo, v_hi = _clipped_bounds(screen, i0, i1, i2, near)
            nearest = np.inf
        # Most faces of a head are smaller than a pixel and cover no centre: this test is the fast way out. NaNs fail it.
        if not (u_hi >= 0.5 and v_hi >= 0.5 and u_lo <= width - 0.5 and v_lo <= height - 0.5):
            continue

        u_lo, u_hi = max(u_lo, 0.5), min(u_hi, width - 0.5)
        v_lo, v_hi = max(v_lo, 0.5), min(v_hi, height - 0.5)
        x_lo, x_hi = math.ceil(u_lo - 0.5), math.floor(u_hi - 0.5)
        y_lo, y_hi = math.ceil(v_lo - 0.5), math.floor(v_hi - 0.5)
        c_lo, c_hi = math.ceil(u_lo * per_sample - 0.5), math.floor(u_hi * per_sample - 0.5)
        r_lo, r_hi = math.ceil(v_lo * per_sample - 0.5), math.floor(v_hi * per_sample - 0.5)
        if not has_central:
            r_hi = r_lo - 1
        if (x_lo > x_hi or y_lo > y_hi) and (c_lo > c_hi or r_lo > r_hi):
            continue

        # A head hides half of itself (teeth, sockets, the back): most such faces lie behind all that they could cover.
        hidden = True
        for y in range(y_lo, y_hi + 1):
            for x in range(x_lo, x_hi + 1):
                hidden = hidden and inverse[y, x] >= nearest
            if not hidden:
                break
        for y in range(r_lo, r_hi + 1):
            for x in range(c_lo, c_hi + 1):
                hidden = hidden and central[y, x] >= nearest
            if not hidden:
                break
        if hidden:
            continue

        x0, y0 = screen[i0, 0], screen[i0, 1]
        x1, y1 = screen[i1, 0], screen[i1, 1]
        x2, y2 = screen[i2, 0], screen[i2, 1]
        ax, ay, az = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
        bx, by, bz = y2 * z0 - z2 * y0, z2 * x0 - x2 * z0, x2 * y0 - y2 * x0
        cx, cy, cz = y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1
        det = x0 * ax + y0 * ay + z0 * az
        # v points down, so a face that is counter-clockwise from outside has a negative determinant.
        if det == 0.0 or (cull_back and det > 0.0):
            continue
        if det < 0.0:
            ax, ay, az = -ax, -ay, -az
            bx, by, bz = -bx, -by, -bz
            cx, cy, cz = -cx, -cy, -cz

        scale = 1.0 / abs(det)
        for y in range(y_lo, y_hi + 1):
            py = y + 0.5
            for x in range(x_lo, x_hi + 1):
                px = x + 0.5
                a = ax * px + ay * py + az
                b = bx * px + by * py + bz
                c = cx * px + cy * py + cz
                if min(a, b, c) < 0.0:
                    continue
                total = (a + b + c) * scale
                if total > inverse[y, x] and total <= nearest_allowed:
                    inverse[y, x] = total
                    face_id[y, x] = f
                    share = 1.0 / (a + b + c)
                    barycentric[y, x, 0] = a * share
                    barycentric[y, x, 1] = b * share
                    barycentric[y, x, 2] = c * share
        for y in range(r_lo, r_hi + 1):
            py = y * step + half
            for x in range(c_lo, c_hi + 1):
                px = x * step + half
                a = ax * px + ay * py + az
                b = bx * px + by * py + bz
                c = cx * px + cy * py + cz
                if min(a, b, c) < 0.0:
                    continue
                total = (a + b + c) * scale
                if total > central[y, x] and total <= nearest_allowed:
                    central[y, x] = total

    nearest_seen = central if has_central else inverse
    for y in range(len(depth)):
        for x in range(depth.shape[1]):
            depth[y, x] = 1.0 / nearest_seen[y, x] if nearest_seen[y, x] > 0.0 else 0.0


@kernel()
def _transform(points: np.ndarray, m: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(points)):
        for k in range(3):
            out[i, k] = m[k, 0] * points[i, 0] + m[k, 1] * points[i, 1] + m[k, 2] * points[i, 2] + m[k, 3]


@kernel()
def _mark_used(face_id: np.ndarray, faces: np.ndarray, used: np.ndarray) -> None:
    for y in range(face_id.shape[0]):
        for x in range(face_id.shape[1]):
            f = face_id[y, x]
            if f >= 0:
                used[faces[f, 0]] = used[faces[f, 1]] = used[faces[f, 2]] = True


@kernel(error_model="numpy")
def _clipped_bounds(screen: np.ndarray, i0: int, i1: int, i2: int, near: float) -> tuple[float, float, float, float]:
    """Pixel bounds of the part of a triangle that lies beyond the near plane."""
    u_lo, u_hi, v_lo, v_hi = np.inf, -np.inf, np.inf, -np.inf
    i, j = i0, i1
    for k in range(3):
        x, y, z, next_z = screen[i, 0], screen[i, 1], screen[i, 2], screen[j, 2]
        if z >= near:
            u, v = x / z, y / z
            u_lo, u_hi, v_lo, v_hi = min(u_lo, u), max(u_hi, u), min(v_lo, v), max(v_hi, v)
        if (z >= near) != (next_z >= near):
            t = (near - z) / (next_z - z)
            u, v = (x + t * (screen[j, 0] - x)) / near, (y + t * (screen[j, 1] - y)) / near
            u_lo, u_hi, v_lo, v_hi = min(u_lo, u), max(u_hi, u), min(v_lo, v), max(v_hi, v)
        i, j = (i1, i2) if k == 0 else (i2, i0)
    return u_lo, u_hi, v_lo, v_hi
