"""Small files of every format, written here byte by byte so that readers are not checked against our own writers."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def grid_mesh(n: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (float32-exact), triangles, colours (uint8) and unit normals; no duplicates, none degenerate."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:n, :n]
    vertices = np.stack([i.ravel(), j.ravel(), np.zeros(n * n)], 1) + rng.uniform(-0.2, 0.2, (n * n, 3))
    vertices = vertices.astype(np.float32).astype(np.float64)
    a = (i * n + j)[:-1, :-1].ravel()
    faces = np.concatenate([np.stack([a, a + n, a + n + 1], 1), np.stack([a, a + n + 1, a + 1], 1)])
    colors = rng.integers(0, 256, (n * n, 3)).astype(np.uint8)
    normals = rng.normal(size=(n * n, 3))
    return vertices, faces, colors, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def ply_bytes(vertices, faces=None, colors=None, normals=None, *, form="binary_little_endian", extra=False) -> bytes:
    """Write PLY; ``extra`` adds unknown elements and properties around the known ones. Faces may be of any length."""
    order = ">" if "big" in form else "<"
    head, rows = ["ply", f"format {form} 1.0", "comment made by a test"], []
    if extra:
        head += ["element camera 2", "property float a", "property list uchar short b"]
        rows += [[("f", 1.5), ("B", 2), ("h", 7), ("h", 8)], [("f", 2.5), ("B", 0)]]
    head += [f"element vertex {len(vertices)}", "property double x", "property double y", "property double z"]
    if extra:
        head += ["property int quality"]
    if normals is not None:
        head += [f"property double n{c}" for c in "xyz"]
    if colors is not None:
        kind = "uchar" if colors.dtype == np.uint8 else "float"
        head += [f"property {kind} {c}" for c in ("red", "green", "blue")]
    for k, v in enumerate(vertices):
        row = [("d", x) for x in v]
        row += [("i", 3)] if extra else []
        row += [] if normals is None else [("d", x) for x in normals[k]]
        row += [] if colors is None else [("B" if colors.dtype == np.uint8 else "f", c) for c in colors[k]]
        rows.append(row)
    if faces is not None:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        head += ["property uchar flags"] if extra else []
        for f in faces:
            rows.append([("B", len(f)), *(("i", int(v)) for v in f), *([("B", 1)] if extra else [])])
    if extra:
        head += ["element tail 1", "property float q"]
        rows.append([("f", 0.0)])
    header = ("\n".join([*head, "end_header"]) + "\n").encode()
    if form == "ascii":
        return (
            header
            + "".join(" ".join(repr(x.item() if hasattr(x, "item") else x) for _, x in r) + "\n" for r in rows).encode()
        )
    return header + b"".join(struct.pack(order + "".join(c for c, _ in r), *(x for _, x in r)) for r in rows)


def obj_bytes(vertices, faces, colors=None) -> bytes:
    lines = [
        "v " + " ".join(map(repr, [*v.tolist(), *([] if colors is None else (colors[k] / 255).tolist())]))
        for k, v in enumerate(vertices)
    ]
    return "\n".join(
        ["# made by a test", *lines, *("f " + " ".join(str(v + 1) for v in f) for f in faces), ""]
    ).encode()


def stl_bytes(vertices, faces, *, text=False) -> bytes:
    if text:
        out = ["solid test"]
        for f in faces:
            out += ["facet normal 0 0 1", " outer loop"]
            out += ["  vertex " + " ".join(map(repr, vertices[min(v, len(vertices) - 1)].tolist())) for v in f]
            out += [" endloop", "endfacet"]
        return "\n".join([*out, "endsolid", ""]).encode()
    rows = b"".join(
        struct.pack("<12fH", 0, 0, 1, *vertices[np.minimum(f, len(vertices) - 1)].ravel(), 0) for f in faces
    )
    return b"solid but binary".ljust(80, b"\0") + struct.pack("<I", len(faces)) + rows


def off_bytes(vertices, faces, colors=None) -> bytes:
    out = ["OFF" if colors is None else "COFF", "# comment", f"{len(vertices)} {len(faces)} 0"]
    out += [
        " ".join([*map(repr, v.tolist()), *([] if colors is None else map(str, [*colors[k].tolist(), 255]))])
        for k, v in enumerate(vertices)
    ]
    return "\n".join([*out, *(" ".join(map(str, [len(f), *f])) for f in faces), ""]).encode()


def wrl_bytes(vertices, faces, colors=None, uv=None, image: str | None = None) -> bytes:
    """Write VRML 2.0; texture coordinates are per vertex, with an index of their own as scanners write it."""

    def array(name: str, rows) -> str:
        return f"{name} [\n" + ",\n".join(" ".join(map(repr, row.tolist())) for row in rows) + "\n]\n"

    index = np.column_stack([faces, np.full(len(faces), -1)])
    out = "#VRML V2.0 utf8\n# made by a test } ]\nShape {\nappearance Appearance {"
    out += f' texture ImageTexture {{ url "{image}" }}' if image is not None else ""
    out += " }\ngeometry IndexedFaceSet {\nsolid FALSE\ncoord DEF c Coordinate {\n" + array("point", vertices) + "}\n"
    out += array("coordIndex", index)
    if colors is not None:
        out += "color Color {" + array("color", colors / 255.0) + "}\n"
    if uv is not None:
        out += "texCoord TextureCoordinate {\n" + array("point", uv) + "}\n" + array("texCoordIndex", index)
    return (out + "}\n}\n").encode()


def lzf_literals(data: bytes) -> bytes:
    """Compress with LZF's literal runs only, but for runs of one byte, which become back references."""
    out, i = bytearray(), 0
    while i < len(data):
        run = 1
        while i + run < len(data) and data[i + run] == data[i] and run < 200:
            run += 1
        if run > 12:
            out += bytes([0, data[i], 7 << 5, run - 1 - 9, 0])
            i += run
        else:
            chunk = data[i : i + 8]
            out += bytes([len(chunk) - 1]) + chunk
            i += len(chunk)
    return bytes(out)


def pcd_bytes(points, colors=None, normals=None, *, data="ascii") -> bytes:
    fields, columns = ["x", "y", "z"], [points[:, k].astype("<f4") for k in range(3)]
    if colors is not None:
        packed = (colors.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(1).astype("<u4")
        fields, columns = [*fields, "rgb"], [*columns, packed if data == "ascii" else packed.view("<f4")]
    if normals is not None:
        fields += ["normal_x", "normal_y", "normal_z"]
        columns += [normals[:, k].astype("<f4") for k in range(3)]
    kinds = ["U" if c.dtype.kind == "u" else "F" for c in columns]
    n = len(points)
    head = f"# .PCD v0.7\nVERSION 0.7\nFIELDS {' '.join(fields)}\nSIZE {' '.join('4' * len(fields))}\n"
    head += f"TYPE {' '.join(kinds)}\nCOUNT {' '.join('1' * len(fields))}\nWIDTH {n}\nHEIGHT 1\n"
    head += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {data}\n"
    if data == "ascii":
        return (head + "".join(" ".join(repr(c[k].item()) for c in columns) + "\n" for k in range(n))).encode()
    if data == "binary":
        rows = np.empty(n, [(f"c{k}", c.dtype) for k, c in enumerate(columns)])
        for k, c in enumerate(columns):
            rows[f"c{k}"] = c
        return head.encode() + rows.tobytes()
    soa = b"".join(c.tobytes() for c in columns)
    packed_bytes = lzf_literals(soa)
    return head.encode() + struct.pack("<II", len(packed_bytes), len(soa)) + packed_bytes


def xyz_bytes(points, *others) -> bytes:
    rows = np.concatenate([points, *others], axis=1)
    return "".join(" ".join(map(repr, r)) + "\n" for r in rows.tolist()).encode()


def npz_bytes(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def png_bytes(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def gltf_parts(vertices, faces, colors=None, uv=None, texture: bytes | None = None, nodes=None) -> tuple[dict, bytes]:
    """Return the JSON (one mesh, one primitive) and the binary buffer."""
    blobs = [vertices.astype("<f4").tobytes(), faces.astype("<u4").tobytes()]
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3"},
        {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
    ]
    attributes = {"POSITION": 0}
    root = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": nodes or [{"mesh": 0}]}
    primitive = {"attributes": attributes, "indices": 1}
    if colors is not None:
        attributes["COLOR_0"] = len(accessors)
        accessors.append({"bufferView": len(blobs), "componentType": 5126, "count": len(vertices), "type": "VEC3"})
        blobs.append(colors.astype("<f4").tobytes())
    if uv is not None:
        attributes["TEXCOORD_0"] = len(accessors)
        accessors.append({"bufferView": len(blobs), "componentType": 5126, "count": len(vertices), "type": "VEC2"})
        blobs.append(uv.astype("<f4").tobytes())
    if texture is not None:
        root["images"] = [{"bufferView": len(blobs), "mimeType": "image/png"}]
        root["textures"] = [{"source": 0}]
        root["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
        primitive["material"] = 0
        blobs.append(texture)
    views, start = [], 0
    for k, blob in enumerate(blobs):
        views.append({"buffer": 0, "byteOffset": start, "byteLength": len(blob)})
        blobs[k] = blob.ljust(-(-len(blob) // 4) * 4, b"\0")
        start += len(blobs[k])
    root |= {"meshes": [{"primitives": [primitive]}], "accessors": accessors, "bufferViews": views}
    root["buffers"] = [{"byteLength": start}]
    return root, b"".join(blobs)


def glb_bytes(root: dict, data: bytes) -> bytes:
    text = json.dumps(root).encode()
    text = text.ljust(-(-len(text) // 4) * 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def gltf_bytes(root: dict, data: bytes) -> bytes:
    uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    return json.dumps(root | {"buffers": [{"byteLength": len(data), "uri": uri}]}).encode()


def samples(vertices, faces, colors, normals) -> dict[str, bytes]:
    """Return one valid file of every kind for the same mesh or its points, by file name."""
    root, data = gltf_parts(vertices, faces, colors / 255.0, vertices[:, :2], png_bytes(colors[:4].reshape(2, 2, 3)))
    ragged = [*faces.tolist()[:-2], [*faces[-1].tolist(), int(faces[0, 0])]]
    return {
        "a.ply": ply_bytes(vertices, faces, colors, normals, form="ascii", extra=True),
        "ragged_a.ply": ply_bytes(vertices, ragged, form="ascii", extra=True),
        "le.ply": ply_bytes(vertices, faces, colors, normals, extra=True),
        "be.ply": ply_bytes(vertices, faces, colors, normals, form="binary_big_endian", extra=True),
        "ragged.ply": ply_bytes(vertices, ragged, colors, extra=True),
        "m.obj": obj_bytes(vertices, faces, colors),
        "m.stl": stl_bytes(vertices, faces),
        "t.stl": stl_bytes(vertices, faces, text=True),
        "m.off": off_bytes(vertices, faces, colors),
        "a.pcd": pcd_bytes(vertices, colors, normals),
        "b.pcd": pcd_bytes(vertices, colors, normals, data="binary"),
        "c.pcd": pcd_bytes(vertices, colors, normals, data="binary_compressed"),
        "m.wrl": wrl_bytes(vertices, faces, colors),
        "u.wrl": wrl_bytes(vertices, faces, colors, vertices[:, :2]),
        "p.xyz": xyz_bytes(vertices, colors),
        "p.npz": npz_bytes(vertices=vertices, faces=faces, colors=colors, normals=normals),
        "m.glb": glb_bytes(root, data),
        "m.gltf": gltf_bytes(root, data),
    }


def write_frame(folder: Path, depth: np.ndarray, rgb: np.ndarray, /, **layout) -> Path:
    """Write an RGB-D folder; depth as PNG where it is uint16, else as .npy."""
    folder.mkdir(exist_ok=True)
    (folder / "color.png").write_bytes(png_bytes(rgb))
    if depth.dtype == np.uint16:
        (folder / "depth.png").write_bytes(png_bytes(depth))
    else:
        np.save(folder / "depth.npy", depth)
    intrinsics = {"fx": 100.0, "fy": 110.0, "cx": 20.0, "cy": 15.0, "width": 40, "height": 30}
    (folder / "intrinsics.json").write_text(json.dumps(intrinsics | layout))
    return folder
