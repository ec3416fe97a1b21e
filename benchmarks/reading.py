"""Reading scans of a quarter of a million points, in every format, beside trimesh and Open3D.

    make bench BENCH=reading OUT=dir

The same bumpy sphere (262,144 vertices, 522,242 triangles, colours or a texture) is written in every format, once; each file
is read two to seven times, as long as that takes no more than two seconds, and the fastest time counts (processor seconds,
since other work slows a wall clock). Each time is printed to standard error as it is measured; all takes a minute.
``reading_s/omote/FORMAT`` is `omote.read`, cleaning included; ``reading_s/trimesh/FORMAT`` and ``reading_s/open3d/FORMAT`` are
the peers', where they are installed and read that format. Peers neither check nor clean what they read; some lose colours.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
from PIL import Image

from omote.formats.write import save_obj, save_ply
from omote.types import Mesh, PointCloud

SIDE, REPEATS, PATIENCE_S = 512, 7, 2.0


def sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices in mm, triangles, colours (uint8) and texture coordinates."""
    v, u = np.mgrid[0.02 : 0.98 : SIDE * 1j, 0 : 1 : SIDE * 1j]
    radius = 90 + 4 * np.sin(40 * u) * np.cos(30 * v)
    direction = [np.sin(np.pi * v) * np.cos(6 * u), np.cos(np.pi * v), np.sin(np.pi * v) * np.sin(6 * u)]
    points = (np.stack(direction, -1) * radius[..., None]).reshape(-1, 3).astype(np.float32).astype(np.float64)
    a = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + SIDE, a + SIDE + 1], 1), np.stack([a, a + SIDE + 1, a + 1], 1)])
    colors = np.stack([200 + 30 * np.sin(9 * u), 150 + 30 * np.cos(7 * v), 130 + 0 * u], -1).reshape(-1, 3)
    return points, faces, colors.astype(np.uint8), np.stack([u.ravel(), v.ravel()], 1)


def write_all(folder: Path) -> dict[str, Path]:
    """Write every format; paths by name."""
    points, faces, colors, uv = sphere()
    texture = np.asarray(Image.fromarray(colors.reshape(SIDE, SIDE, 3)).resize((1024, 1024)), np.float32) / 255
    unit = colors / np.float32(255)
    save_ply(Mesh(vertices=points, faces=faces, vertex_colors=unit), folder / "binary.ply")
    save_obj(Mesh(vertices=points, faces=faces, vertex_colors=unit), folder / "colored.obj")
    save_obj(Mesh(vertices=points, faces=faces, uv=uv, faces_uv=faces, texture=texture), folder / "textured.obj")
    save_ply(PointCloud(points=points, colors=unit), folder / "points.ply")
    rows = np.column_stack([points, colors])
    np.savetxt(folder / "points.xyz", rows, fmt="%.4f %.4f %.4f %d %d %d")
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(f"property float {c}\n" for c in "xyz")
    head += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue"))
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    with (folder / "ascii.ply").open("w") as file:
        file.write(head)
        np.savetxt(file, rows, fmt="%.4f %.4f %.4f %d %d %d")
        np.savetxt(file, np.column_stack([np.full(len(faces), 3), faces]), fmt="%d")
    with (folder / "mesh.off").open("w") as file:
        file.write(f"OFF\n{len(points)} {len(faces)} 0\n")
        np.savetxt(file, points, fmt="%.4f")
        np.savetxt(file, np.column_stack([np.full(len(faces), 3), faces]), fmt="%d")
    facets = np.zeros(len(faces), [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    facets["v"] = points[faces]
    (folder / "mesh.stl").write_bytes(b"\0" * 80 + struct.pack("<I", len(faces)) + facets.tobytes())
    packed = np.zeros(len(points), [("p", "<f4", 3), ("c", "<u4")])
    packed["p"], packed["c"] = points, (colors.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=1)
    pcd = f"VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\n"
    pcd += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    (folder / "points.pcd").write_bytes(pcd.encode() + packed.tobytes())
    np.savez_compressed(folder / "mesh.npz", vertices=points, faces=faces, colors=colors)
    (folder / "mesh.glb").write_bytes(_glb(points, faces, uv, texture))
    with zipfile.ZipFile(folder / "textured.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in (".obj", ".mtl", ".png"):
            archive.write(folder / f"textured{suffix}", f"textured{suffix}")
    return {p.name.replace(".", "_"): p for p in sorted(folder.iterdir()) if p.suffix not in (".mtl", ".png")}


def _glb(points: np.ndarray, faces: np.ndarray, uv: np.ndarray, texture: np.ndarray) -> bytes:
    image = io.BytesIO()
    Image.fromarray((texture * 255).astype(np.uint8)).save(image, "PNG")
    blobs = [
        points.astype("<f4").tobytes(),
        faces.astype("<u4").tobytes(),
        uv.astype("<f4").tobytes(),
        image.getvalue(),
    ]
    blobs = [b.ljust(-(-len(b) // 4) * 4, b"\0") for b in blobs]
    starts = np.cumsum([0, *map(len, blobs)]).tolist()
    views = [{"buffer": 0, "byteOffset": s, "byteLength": len(b)} for s, b in zip(starts, blobs, strict=False)]
    kinds = [(5126, len(points), "VEC3"), (5125, faces.size, "SCALAR"), (5126, len(uv), "VEC2")]
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    accessors = [{"bufferView": k, "componentType": c, "count": n, "type": t} for k, (c, n, t) in enumerate(kinds)]
    accessors[0] |= {"min": low, "max": high}
    root = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 2}, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}], "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}], "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": starts[-1]}],
    }  # fmt: skip
    text = json.dumps(root).encode()
    text = text.ljust(-(-len(text) // 4) * 4)
    data = b"".join(blobs)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def omote_reader() -> Callable[[Path], object]:
    from omote.formats import read

    return read


def trimesh_reader() -> Callable[[Path], object]:
    import trimesh

    return lambda path: trimesh.load(path)


def open3d_reader() -> Callable[[Path], object]:
    import open3d

    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)

    def read(path: Path) -> object:
        if path.suffix in (".pcd", ".xyz") or path.stem == "points":
            cloud = open3d.io.read_point_cloud(str(path))
            if not len(cloud.points):
                raise ValueError
            return cloud
        model = open3d.io.read_triangle_mesh(str(path), enable_post_processing=True)
        if not len(model.triangles):
            raise ValueError
        return model

    return read


READERS = {"omote": omote_reader, "trimesh": trimesh_reader, "open3d": open3d_reader}


def seconds(read: Callable[[Path], object], path: Path) -> float:
    """The fastest of several, in processor time."""
    times: list[float] = []
    while len(times) < 2 or (len(times) < REPEATS and sum(times) < PATIENCE_S):
        start = time.process_time()
        read(path)
        times.append(time.process_time() - start)
    return min(times)


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    result: dict[str, float | int | str] = {}
    with tempfile.TemporaryDirectory() as name:
        paths = write_all(Path(name))
        for reader, make in READERS.items():
            if importlib.util.find_spec(reader) is None:
                result[f"reading/{reader}"] = "not installed"
                continue
            read = make()
            for kind, path in paths.items():
                try:
                    with redirect_stderr(io.StringIO()):
                        result[f"reading_s/{reader}/{kind}"] = fastest = round(seconds(read, path), 4)
                    print(f"{reader:<8} {kind:<14} {fastest:7.3f} s", file=sys.stderr, flush=True)
                except Exception as error:  # a peer does not read every format
                    print(f"{reader:<8} {kind:<14} {type(error).__name__}", file=sys.stderr, flush=True)
        result |= {f"reading_bytes/{kind}": path.stat().st_size for kind, path in paths.items()}
    return result


if __name__ == "__main__":
    json.dump(run(), sys.stdout, indent=1)
