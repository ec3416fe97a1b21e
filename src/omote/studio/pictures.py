"""What the page shows before the avatar is there: the scan as a GLB, and RGB-D images as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from omote.asset.glb import surroundings_mesh
from omote.asset.gltf_file import GltfFile
from omote.asset.primitives import MM_PER_M
from omote.files import atomic_path
from omote.formats.frame_write import as_bytes, depth_greys, side_by_side
from omote.geometry.camera import rgbd_points
from omote.rendering.shade import to_linear
from omote.types import Mesh, PointCloud, Rgbd, Scan

MOST_POINTS, MOST_TRIANGLES, MOST_TEXELS = 150_000, 200_000, 1024
GRID = 320  # cells along the longest side of a scan that is thinned
SEED = 0
POINTS = 0  # glTF's mode


def write_preview(scan: Scan, path: Path) -> None:
    """Write a scan as a GLB to look at: its longest side is 1 m, thinned if it is large.

    The root's ``extras`` have ``center`` (3 numbers) and ``size``: a point p of the preview is p × size + center in the
    scan's coordinates.

    Raises:
        OutputError: it cannot be written.
    """
    points = _points(scan)
    low, high = points.min(axis=0), points.max(axis=0)
    center, size = (low + high) / 2, float((high - low).max()) or 1.0
    file = GltfFile()
    if isinstance(scan, Mesh):
        piece = _thinned(scan) if len(scan.faces) > MOST_TRIANGLES else _with_small_texture(scan)
        scaled = (piece.vertices - center) / size * MM_PER_M
        mesh = surroundings_mesh(
            file,
            Mesh(
                vertices=scaled,
                faces=piece.faces,
                vertex_colors=piece.vertex_colors,
                uv=piece.uv,
                faces_uv=piece.faces_uv,
                texture=piece.texture,
            ),
            name="scan",
        )
    else:
        mesh = _points_mesh(file, (points - center) / size, _colors(scan))
    node = file.add("nodes", {"name": "scan", "mesh": mesh})
    file.add("scenes", {"nodes": [node]})
    kind = "frame" if isinstance(scan, Rgbd) else "mesh" if isinstance(scan, Mesh) else "points"
    file.root["asset"]["extras"] = {"center": center.tolist(), "size": size, "kind": kind}
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.to_bytes())


def write_picture(image: Rgbd, path: Path) -> None:
    """Write colour and depth side by side as PNG."""
    with atomic_path(path) as temporary:
        Image.fromarray(as_bytes(side_by_side(image.rgb, depth_greys(image)))).save(temporary, "PNG")


def write_mask(mask: Bool[np.ndarray, "height width"], path: Path) -> None:
    """Write a mask as PNG: white, opaque where it is True and transparent elsewhere."""
    values = np.stack([np.full(mask.shape, 255, np.uint8), mask.astype(np.uint8) * 255], axis=-1)
    with atomic_path(path) as temporary:
        Image.fromarray(values, "LA").save(temporary, "PNG")


def _points(scan: Scan) -> Float[np.ndarray, "n 3"]:
    if isinstance(scan, Mesh):
        return scan.vertices.astype(np.float64)
    return scan.points.astype(np.float64) if isinstance(scan, PointCloud) else rgbd_points(scan)[0].astype(np.float64)


def _colors(scan: PointCloud | Rgbd) -> Float[np.ndarray, "n 3"] | None:
    return scan.colors if isinstance(scan, PointCloud) else rgbd_points(scan)[1]


def _points_mesh(file: GltfFile, points: Float[np.ndarray, "n 3"], colors: Float[np.ndarray, "n 3"] | None) -> int:
    if len(points) > MOST_POINTS:
        kept = np.sort(np.random.default_rng(SEED).choice(len(points), MOST_POINTS, replace=False))
        points, colors = points[kept], None if colors is None else colors[kept]
    attributes = {"POSITION": file.positions(points)}
    if colors is not None:
        attributes["COLOR_0"] = file.colors(to_linear(colors))
    return file.add("meshes", {"name": "scan", "primitives": [{"attributes": attributes, "mode": POINTS}]})


def _with_small_texture(mesh: Mesh) -> Mesh:
    if mesh.texture is None:
        return mesh
    step = max(1, -(-max(mesh.texture.shape[:2]) // MOST_TEXELS))
    return Mesh(
        vertices=mesh.vertices,
        faces=mesh.faces,
        vertex_colors=mesh.vertex_colors,
        uv=mesh.uv,
        faces_uv=mesh.faces_uv,
        texture=mesh.texture[::step, ::step],
    )


def _thinned(mesh: Mesh) -> Mesh:
    """The mesh with the vertices of each cell of a grid joined, and a colour per vertex.

    References:
        J. Rossignac, P. Borrel: Multi-resolution 3D approximations for rendering complex scenes, 1993.
    """
    vertices = mesh.vertices.astype(np.float64)
    low, extent = vertices.min(axis=0), float(np.ptp(vertices, axis=0).max()) or 1.0
    cells = np.minimum((vertices - low) / extent * GRID, GRID - 1).astype(np.int64)
    _, first, joined = np.unique(
        (cells[:, 0] * GRID + cells[:, 1]) * GRID + cells[:, 2], return_index=True, return_inverse=True
    )
    faces: Int[np.ndarray, "f 3"] = joined[mesh.faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    colors = _vertex_colors(mesh)
    return Mesh(vertices=vertices[first], faces=faces[whole], vertex_colors=None if colors is None else colors[first])


def _vertex_colors(mesh: Mesh) -> Float[np.ndarray, "n 3"] | None:
    if mesh.texture is None or mesh.uv is None:
        return mesh.vertex_colors
    uv = np.zeros((len(mesh.vertices), 2))
    corners = mesh.faces if mesh.faces_uv is None else mesh.faces_uv
    uv[mesh.faces.ravel()] = mesh.uv[corners.ravel()]
    height, width = mesh.texture.shape[:2]
    column = np.clip(uv[:, 0] % 1.0 * width, 0, width - 1).astype(int)
    row = np.clip((1 - uv[:, 1] % 1.0) * height, 0, height - 1).astype(int)
    return mesh.texture[row, column]
