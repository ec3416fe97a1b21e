"""Meshes and point clouds → PLY and OBJ; each file is written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

from omote.errors import OutputError
from omote.files import atomic_path
from omote.types import Mesh, PointCloud


def save_ply(scan: Mesh | PointCloud, path: Path | str) -> None:
    """Write binary little-endian PLY: float32 positions and normals, uchar colours, int32 faces.

    Texture coordinates and texture are not written; PLY viewers disagree on them. Use `save_obj` for those.

    Args:
        scan: mesh or point cloud in any unit.
        path: output file, in a folder that exists.

    Raises:
        OutputError: the file cannot be written.
    """
    points, colors, normals, faces = _parts(scan)
    fields: list[tuple] = [(name, "<f4") for name in ("x", "y", "z")]
    values = [points]
    if normals is not None:
        fields += [(name, "<f4") for name in ("nx", "ny", "nz")]
        values.append(normals)
    if colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
        values.append(_bytes(colors))
    vertex = np.empty(len(points), fields)
    for k, (name, _) in enumerate(fields):
        vertex[name] = values[k // 3][:, k % 3]
    names = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", "comment omote", f"element vertex {len(points)}"]
    header += [f"property {names[dtype]} {name}" for name, dtype in fields]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        file.write(vertex.tobytes())
        if faces is not None:
            rows = np.empty(len(faces), [("count", "u1"), ("ids", "<i4", 3)])
            rows["count"], rows["ids"] = 3, faces
            file.write(rows.tobytes())


def save_obj(scan: Mesh | PointCloud, path: Path | str) -> None:
    """Write OBJ; a textured mesh also gets ``<stem>.mtl`` and ``<stem>.png`` beside it.

    Positions have nine significant digits, enough to give float32 back exactly. Vertex colours follow the positions
    (``v x y z r g b``) where there is no texture.

    Args:
        scan: mesh or point cloud in any unit.
        path: output file that ends in ``.obj``, in a folder that exists.

    Raises:
        OutputError: a file cannot be written, or ``path`` ends otherwise.
    """
    path = Path(path)
    if path.suffix.lower() != ".obj":
        raise OutputError(f"cannot write {path}: expected a name that ends in .obj; rename it")
    points, colors, normals, faces = _parts(scan)
    uv = scan.uv if isinstance(scan, Mesh) and scan.faces_uv is not None else None
    texture = scan.texture if isinstance(scan, Mesh) and uv is not None else None
    if texture is not None:  # the OBJ last, so that the files it names exist before it does
        _save_texture(texture, path)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if texture is not None:
            file.write(f"mtllib {path.stem}.mtl\nusemtl skin\n".encode())
        positions = points if colors is None or texture is not None else np.concatenate([points, colors], axis=1)
        _write_rows(file, "v " + " ".join(["%.9g"] * positions.shape[1]), positions)
        if uv is not None:
            _write_rows(file, "vt %.9g %.9g", uv)
        if normals is not None:
            _write_rows(file, "vn %.9g %.9g %.9g", normals)
        if faces is None:
            return
        if isinstance(scan, Mesh) and uv is not None and scan.faces_uv is not None:
            corners = np.stack([faces, scan.faces_uv], axis=2).reshape(-1, 6) + 1
            _write_rows(file, "f %d/%d %d/%d %d/%d", corners)
        else:
            _write_rows(file, "f %d %d %d", faces + 1)


def _parts(
    scan: Mesh | PointCloud,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    if isinstance(scan, Mesh):
        return scan.vertices, scan.vertex_colors, None, scan.faces
    return scan.points, scan.colors, scan.normals, None


def _bytes(colors: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return (np.clip(np.nan_to_num(colors), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _write_rows(file: BinaryIO, row: str, values: np.ndarray) -> None:
    for start in range(0, len(values), 65536):
        part = values[start : start + 65536]
        file.write(((row + "\n") * len(part) % tuple(part.ravel().tolist())).encode("ascii"))


def _save_texture(texture: Float[np.ndarray, "tex_height tex_width 3"], path: Path) -> None:
    from PIL import Image as pil

    with atomic_path(path.with_suffix(".png")) as temporary:
        pil.fromarray(_bytes(texture)).save(temporary, format="PNG")
    with atomic_path(path.with_suffix(".mtl")) as temporary:
        temporary.write_text(f"newmtl skin\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd {path.stem}.png\n", encoding="utf-8")
