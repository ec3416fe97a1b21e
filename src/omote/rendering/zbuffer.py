"""A z-buffer for triangle meshes: which face, where in it, and how far, for every pixel.

Rasterisation is homogeneous (Olano & Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997): with a
triangle's corners v_i = K X_i as columns and a pixel p = (u, v, 1), the system p / z⁻¹ = Σ b_i v_i gives
λ_i = b_i / z = p·(v_j × v_k) / det. So 1/z = Σ λ_i, b_i = λ_i z is perspective-correct, the pixel is inside where every
λ_i ≥ 0, and triangles that cross the near plane need no cutting: the test z ≥ near is per pixel. The edge function of two
neighbours is the same product with the opposite sign, so shared edges leave no gaps.

One image runs on one thread and releases the GIL; populations parallelise over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Int

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
    height, width = camera.height * supersample, camera.width * supersample
    face_id = np.empty((height, width), np.int32)
    barycentric = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    fill(screen, np.ascontiguousarray(faces), near_mm, cull_back, face_id, barycentric, depth)
    return Raster(face_id=face_id, barycentric=barycentric, depth_mm=depth)


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
    height, width = camera.height * supersample, camera.width * supersample
    face_id = np.empty((height, width), np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    depth = np.empty((camera.height, camera.width), np.float32)
    fill_samples(screen, np.ascontiguousarray(faces), near_mm, supersample, face_id, barycentric, depth)
    return Samples(face_id=face_id, barycentric=barycentric, depth_mm=depth)


def to_screen(camera: Camera, vertices_mm: Float[np.ndarray, "v 3"], supersample: int = 1) -> Float[np.ndarray, "v 3"]:
    """Homogeneous pixels (u z, v z, z) of world points."""
    intrinsics = np.diag([supersample, supersample, 1.0]) @ camera.intrinsics
    matrix = intrinsics @ camera.cam_from_world[:3]
    return _transform(np.ascontiguousarray(vertices_mm), matrix)


@numba.njit(cache=True, nogil=True, fastmath=False)
def _transform(points: np.ndarray, m: np.ndarray) -> np.ndarray:
    out = np.empty((len(points), 3), np.float64)
    for i in range(len(points)):
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        for k in range(3):
            out[i, k] = m[k, 0] * x + m[k, 1] * y + m[k, 2] * z + m[k, 3]
    return out


@numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill(
    screen: np.ndarray,
    faces: np.ndarray,
    near: float,
    cull_back: bool,
    face_id: np.ndarray,
    barycentric: np.ndarray,
    depth: np.ndarray,
) -> None:
    """The kernel of `rasterize`, writing into its last three arguments."""
    height, width = face_id.shape
    face_id[:] = -1
    barycentric[:] = 0.0
    inverse = np.zeros((height, width), np.float64)  # 1/z of the nearest so far; 0 is infinitely far
    nearest_allowed = 1.0 / near
    u = np.empty(len(screen), np.float64)
    v = np.empty(len(screen), np.float64)
    for i in range(len(screen)):
        z = screen[i, 2]
        if z >= near:
            u[i], v[i] = screen[i, 0] / z, screen[i, 1] / z
    for f in range(len(faces)):
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        z0, z1, z2 = screen[i0, 2], screen[i1, 2], screen[i2, 2]
        if z0 >= near and z1 >= near and z2 >= near:
            u_lo, u_hi = min(u[i0], u[i1], u[i2]), max(u[i0], u[i1], u[i2])
            v_lo, v_hi = min(v[i0], v[i1], v[i2]), max(v[i0], v[i1], v[i2])
        elif z0 < near and z1 < near and z2 < near:
            continue
        else:
            u_lo, u_hi, v_lo, v_hi = _clipped_bounds(screen, i0, i1, i2, near)
        # Most faces of a head are smaller than a pixel and cover no centre: this test is the fast way out. NaNs fail it.
        if not (u_hi >= 0.5 and v_hi >= 0.5 and u_lo <= width - 0.5 and v_lo <= height - 0.5):
            continue
        x_lo, x_hi = int(np.ceil(max(u_lo, 0.5) - 0.5)), int(np.floor(min(u_hi, width - 0.5) - 0.5))
        y_lo, y_hi = int(np.ceil(max(v_lo, 0.5) - 0.5)), int(np.floor(min(v_hi, height - 0.5) - 0.5))
        if x_lo > x_hi or y_lo > y_hi:
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
        sign = 1.0 if det > 0.0 else -1.0
        scale = 1.0 / abs(det)
        for y in range(y_lo, y_hi + 1):
            py = y + 0.5
            for x in range(x_lo, x_hi + 1):
                px = x + 0.5
                a = sign * (ax * px + ay * py + az)
                b = sign * (bx * px + by * py + bz)
                c = sign * (cx * px + cy * py + cz)
                if a < 0.0 or b < 0.0 or c < 0.0:
                    continue
                total = (a + b + c) * scale
                if total > inverse[y, x] and total <= nearest_allowed:
                    inverse[y, x] = total
                    face_id[y, x] = f
                    share = 1.0 / (a + b + c)
                    barycentric[y, x, 0] = a * share
                    barycentric[y, x, 1] = b * share
                    barycentric[y, x, 2] = c * share
    for y in range(height):
        for x in range(width):
            depth[y, x] = 1.0 / inverse[y, x] if inverse[y, x] > 0.0 else 0.0


@numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_samples(
    screen: np.ndarray,
    faces: np.ndarray,
    near: float,
    per_side: int,
    face_id: np.ndarray,
    barycentric: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Fill the last three arguments of `rasterize_samples`; the arithmetic is `fill`'s, in samples instead of pixels."""
    height, width = face_id.shape
    rows, columns = depth.shape
    face_id[:] = -1
    inverse = np.zeros((height, width), np.float64)
    central = np.zeros((rows, columns), np.float64)
    nearest_allowed = 1.0 / near
    half, step = 0.5 * per_side, float(per_side)
    per_sample = 1.0 / step
    # Bounds need both coordinates of a vertex at once: one array keeps them on one cache line.
    place = np.empty((len(screen), 2), np.float64)
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
        if not (u_hi >= 0.5 and v_hi >= 0.5 and u_lo <= width - 0.5 and v_lo <= height - 0.5):
            continue
        u_lo, u_hi = max(u_lo, 0.5), min(u_hi, width - 0.5)
        v_lo, v_hi = max(v_lo, 0.5), min(v_hi, height - 0.5)
        x_lo, x_hi = int(np.ceil(u_lo - 0.5)), int(np.floor(u_hi - 0.5))
        y_lo, y_hi = int(np.ceil(v_lo - 0.5)), int(np.floor(v_hi - 0.5))
        c_lo, c_hi = int(np.ceil(u_lo * per_sample - 0.5)), int(np.floor(u_hi * per_sample - 0.5))
        r_lo, r_hi = int(np.ceil(v_lo * per_sample - 0.5)), int(np.floor(v_hi * per_sample - 0.5))
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
        if det == 0.0:
            continue
        if det < 0.0:
            ax, ay, az, bx, by, bz, cx, cy, cz = -ax, -ay, -az, -bx, -by, -bz, -cx, -cy, -cz
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
    for y in range(rows):
        for x in range(columns):
            depth[y, x] = 1.0 / central[y, x] if central[y, x] > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def vertices_used(face_id: np.ndarray, faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Tell which vertices belong to a face that a raster shows."""
    out = np.zeros(num_vertices, np.bool_)
    for y in range(face_id.shape[0]):
        for x in range(face_id.shape[1]):
            f = face_id[y, x]
            if f >= 0:
                out[faces[f, 0]] = out[faces[f, 1]] = out[faces[f, 2]] = True
    return out


@numba.njit(cache=True, nogil=True)
def _clipped_bounds(screen: np.ndarray, i0: int, i1: int, i2: int, near: float) -> tuple[float, float, float, float]:
    """Pixel bounds of the part of a triangle that lies beyond the near plane."""
    u_lo, u_hi, v_lo, v_hi = np.inf, -np.inf, np.inf, -np.inf
    ids = (i0, i1, i2)
    for k in range(3):
        p, q = screen[ids[k]], screen[ids[(k + 1) % 3]]
        if p[2] >= near:
            pu, pv = p[0] / p[2], p[1] / p[2]
            u_lo, u_hi, v_lo, v_hi = min(u_lo, pu), max(u_hi, pu), min(v_lo, pv), max(v_hi, pv)
        if (p[2] >= near) != (q[2] >= near):
            t = (near - p[2]) / (q[2] - p[2])
            pu, pv = (p[0] + t * (q[0] - p[0])) / near, (p[1] + t * (q[1] - p[1])) / near
            u_lo, u_hi, v_lo, v_hi = min(u_lo, pu), max(u_hi, pu), min(v_lo, pv), max(v_hi, pv)
    return u_lo, u_hi, v_lo, v_hi
