"""Scans as a camera sees them: textured, coloured or bare meshes, and point clouds by splatting."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from omote.geometry.cloud import estimate_normals
from omote.geometry.holes import with_colors_in_holes
from omote.geometry.mesh import vertex_normals
from omote.render.rgbd import BACKGROUND, SUPERSAMPLE, interpolate
from omote.render.zbuffer import Raster, rasterize, to_screen
from omote.types import Camera, Mesh, PointCloud, Rgbd

CLAY = np.array([0.62, 0.60, 0.58])


def clay_shade(normals: Float[np.ndarray, "n 3"], toward: Float[np.ndarray, "3"]) -> Float[np.ndarray, "n 3"]:
    """Grey shading of bare surfaces under a light at the camera: what a colourless scan shows."""
    return CLAY * (0.35 + 0.65 * np.abs(normals @ toward))[:, None]


def render_mesh(
    mesh: Mesh,
    camera: Camera,
    *,
    vertex_colors: Float[np.ndarray, "v 3"] | None = None,
    background: Float[np.ndarray, "3"] = BACKGROUND,
) -> Rgbd:
    """Render a scan: its colours as they are (they are lit already), or grey clay if it has none.

    Args:
        mesh: in millimetres, in the camera's world.
        camera: where to look from.
        vertex_colors: instead of the mesh's own colours.
        background: sRGB [0, 1].
    """
    vertices = np.ascontiguousarray(mesh.vertices, np.float64)
    faces = np.ascontiguousarray(mesh.faces, np.int32)
    fine = rasterize(camera, vertices, faces, supersample=SUPERSAMPLE)
    coarse = rasterize(camera, vertices, faces)
    colors = vertex_colors if vertex_colors is not None else mesh.vertex_colors
    if vertex_colors is None and mesh.texture is not None and mesh.uv is not None and mesh.faces_uv is not None:
        rgb = sample_texture(mesh.texture, _interpolated_uv(fine, mesh.uv, mesh.faces_uv))
    else:
        if colors is None:
            toward = -camera.cam_from_world[2, :3]
            colors = clay_shade(vertex_normals(vertices, faces), toward)
        rgb = interpolate(fine.face_id, fine.barycentric, faces, np.ascontiguousarray(colors, np.float32))
    hit = (fine.face_id >= 0)[..., None]
    rgb = np.where(hit, rgb, np.asarray(background, np.float32))
    size = (camera.height, SUPERSAMPLE, camera.width, SUPERSAMPLE, 3)
    averaged = rgb.reshape(size).mean(axis=(1, 3)).astype(np.float32)
    return with_colors_in_holes(Rgbd(rgb=averaged, depth_mm=coarse.depth_mm, mask=coarse.face_id >= 0, camera=camera))


def _interpolated_uv(raster: Raster, uv: Float[np.ndarray, "t 2"], faces_uv: np.ndarray) -> Float[np.ndarray, "h w 2"]:
    flat = np.ascontiguousarray(uv, np.float32)
    return interpolate(raster.face_id, raster.barycentric, np.ascontiguousarray(faces_uv, np.int32), flat)


def sample_texture(texture: Float[np.ndarray, "th tw 3"], uv: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 3"]:
    """Bilinear texture lookup; uv origin at the lower left, wrapped as OBJ and glTF do."""
    height, width = texture.shape[:2]
    x = (uv[..., 0] % 1.0) * width - 0.5
    y = (1 - uv[..., 1] % 1.0) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    xs = [np.clip(x0 + k, 0, width - 1) for k in (0, 1)]
    ys = [np.clip(y0 + k, 0, height - 1) for k in (0, 1)]
    top = texture[ys[0], xs[0]] * (1 - fx) + texture[ys[0], xs[1]] * fx
    bottom = texture[ys[1], xs[0]] * (1 - fx) + texture[ys[1], xs[1]] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)


def render_points(
    cloud: PointCloud,
    camera: Camera,
    *,
    background: Float[np.ndarray, "3"] = BACKGROUND,
    max_radius_px: int = 8,
) -> Rgbd:
    """Render a point cloud by splatting discs as large as the points' spacing.

    Two passes (Botsch et al., "High-Quality Surface Splatting", 2005): first the nearest depth of every pixel's splats,
    then colours and depths of the splats within a tolerance of it, weighted to their centres, so that points of the
    back of a head never bleed through its face.

    Args:
        cloud: in millimetres, in the camera's world.
        camera: where to look from.
        background: sRGB [0, 1].
        max_radius_px: bound on a splat's radius.
    """
    points = np.ascontiguousarray(cloud.points, np.float64)
    screen = to_screen(camera, points)
    z = screen[:, 2]
    inside = z > 1.0
    if cloud.normals is not None:
        toward = -camera.cam_from_world[2, :3]
        inside &= cloud.normals @ toward > -0.2
    # The spacing of each point's neighbours; the sixth covers a hexagonal neighbourhood.
    tree = cKDTree(points)
    spacing = tree.query(points, k=min(7, len(points)), workers=-1)[0][:, -1]
    spacing = np.minimum(spacing, 4 * np.median(spacing))
    radius = 0.62 * spacing * camera.intrinsics[0, 0] / np.maximum(z, 1.0)
    colors = cloud.colors
    if colors is None:
        normals = cloud.normals if cloud.normals is not None else estimate_normals(points)
        colors = clay_shade(normals, -camera.cam_from_world[2, :3])
    pixel = screen[:, :2] / np.maximum(z, 1.0)[:, None]
    rgb, depth, weight = _splat(
        pixel[inside], z[inside], np.clip(radius[inside], 0.71, max_radius_px),
        np.ascontiguousarray(colors[inside], np.float64), 2.0 * float(np.median(spacing)) + 1.0,
        camera.height, camera.width,
    )  # fmt: skip
    mask = weight > 0
    rgb = np.where(mask[..., None], rgb, np.asarray(background))
    return with_colors_in_holes(
        Rgbd(rgb=rgb.astype(np.float32), depth_mm=depth.astype(np.float32), mask=mask, camera=camera)
    )


@numba.njit(cache=True, nogil=True)
def _splat(
    pixel: np.ndarray,
    z: np.ndarray,
    radius: np.ndarray,
    colors: np.ndarray,
    tolerance_mm: float,
    height: int,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nearest = np.full((height, width), np.inf)
    rgb = np.zeros((height, width, 3))
    depth = np.zeros((height, width))
    weight = np.zeros((height, width))
    for second in range(2):
        for i in range(len(z)):
            u, v, r = pixel[i, 0], pixel[i, 1], radius[i]
            for y in range(max(0, int(np.floor(v - r))), min(height, int(np.ceil(v + r)) + 1)):
                for x in range(max(0, int(np.floor(u - r))), min(width, int(np.ceil(u + r)) + 1)):
                    d2 = ((x + 0.5 - u) ** 2 + (y + 0.5 - v) ** 2) / (r * r)
                    if d2 > 1.0:
                        continue
                    if second == 0:
                        if z[i] < nearest[y, x]:
                            nearest[y, x] = z[i]
                    elif z[i] <= nearest[y, x] + tolerance_mm:
                        w = np.exp(-4.0 * d2)
                        weight[y, x] += w
                        depth[y, x] += w * z[i]
                        for k in range(3):
                            rgb[y, x, k] += w * colors[i, k]
    for y in range(height):
        for x in range(width):
            if weight[y, x] > 0:
                depth[y, x] /= weight[y, x]
                for k in range(3):
                    rgb[y, x, k] /= weight[y, x]
    return rgb, depth, weight
