"""Scans as a camera sees them: textured, coloured or bare meshes, and point clouds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.geometry.cloud import estimate_normals
from omote.geometry.holes import with_colors_in_holes
from omote.geometry.mesh import vertex_normals
from omote.rendering.rgbd import BACKGROUND, SUPERSAMPLE, interpolate
from omote.rendering.splats import disc_radii_mm, splat, thinned
from omote.rendering.zbuffer import Raster, rasterize
from omote.types import Camera, Mesh, PointCloud, Rgbd

CLAY = np.array([0.62, 0.60, 0.58])


def clay_shade(normals: Float[np.ndarray, "n 3"], toward: Float[np.ndarray, "3"]) -> Float[np.ndarray, "n 3"]:
    """Grey shading of bare surfaces under a light at the camera, for scans without colour."""
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
        mesh: mesh in the camera's world, mm.
        camera: camera of the image.
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


def render_points(cloud: PointCloud, camera: Camera, *, background: Float[np.ndarray, "3"] = BACKGROUND) -> Rgbd:
    """Render a point cloud by surface splats (`omote.rendering.splats`), as they are (they are lit already), or grey clay.

    Args:
        cloud: points in the camera's world, mm; missing normals are estimated.
        camera: camera of the image.
        background: sRGB [0, 1].
    """
    points, normals, colors = thinned(cloud, camera)
    toward = -camera.cam_from_world[2, :3]
    # Estimated normals have no sign, so only depth hides the back of a head.
    shown = np.ones(len(points), bool) if normals is None else normals @ toward > -0.2
    if normals is None:
        # Two points or fewer lie in no plane.
        normals = estimate_normals(points) if len(points) > 2 else np.tile(toward, (len(points), 1))
    colors = clay_shade(normals, toward) if colors is None else colors
    rgb, depth, mask = splat(points[shown], normals[shown], disc_radii_mm(points)[shown], colors[shown], camera)
    rgb = np.where(mask[..., None], rgb, np.asarray(background))
    return with_colors_in_holes(
        Rgbd(rgb=rgb.astype(np.float32), depth_mm=depth.astype(np.float32), mask=mask, camera=camera)
    )
