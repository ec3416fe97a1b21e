"""Kinds of input made to cost a reader time or memory, or to lead it out of its folder; each draws its sizes from a generator.

A kind writes a scan into a folder and returns the file to read. None is over 10 MB. ``SECRET`` lies outside of every folder: no
scan may show its colour.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scan_files import glb_bytes, gltf_parts, npz_bytes, obj_bytes, png_bytes, wrl_bytes
from seeds import COLORS, FACES, MTL, UV, VERTICES, npy_bytes, textured_obj, zip_bytes

Rng = np.random.Generator
SECRET = (1, 254, 2)  # a colour that nothing else has


def _png(width: int, height: int) -> bytes:
    """A grey image of any size in a few kilobytes, written row by row."""
    out = io.BytesIO()
    packer = zlib.compressobj(9)
    row = b"\0" + b"\x80" * width
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
    out.write(chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return out.getvalue()


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def _log(rng: Rng, low: float, high: float) -> int:
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def materials(folder: Path, rng: Rng) -> Path:
    """One image under many materials, each used, with tints of their own."""
    count = _log(rng, 2, 200)
    side = _log(rng, 64, 8192)
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=_png(side, side))
    tint = {"baseColorFactor": [0.5, 0.5, 0.5, 1]} if rng.random() < 0.5 else {}
    base = root["materials"][0]["pbrMetallicRoughness"]
    root["materials"] = [
        {
            "pbrMetallicRoughness": {
                **base,
                **tint,
                **({"baseColorFactor": [k / count, 0, 0, 1]} if rng.random() < 0.3 else {}),
            }
        }
        for k in range(count)
    ]
    primitive = root["meshes"][0]["primitives"][0]
    root["meshes"][0]["primitives"] = [{**primitive, "material": k} for k in range(count)]
    return _write(folder, {"a.glb": glb_bytes(root, data)})


def images(folder: Path, rng: Rng) -> Path:
    """Many large images, each of a few bytes."""
    count = _log(rng, 2, 64)
    side = _log(rng, 512, 8192)
    names = [f"t{k}.png" for k in range(count)]
    content = _png(side, side)
    library = "".join(f"newmtl m{k}\nmap_Kd {n}\n" for k, n in enumerate(names)).encode()
    obj = textured_obj().replace(b"usemtl skin\n", b"").replace(b"usemtl cloth\n", b"")
    head, _, faces = obj.partition(b"\nf ")
    lines = (b"f " + faces).split(b"\n")
    step = max(len(lines) // count, 1)
    for k in range(count):
        lines.insert(min(k * (step + 1), len(lines)), b"usemtl m%d" % k)
    return _write(
        folder, {"a.obj": head + b"\n" + b"\n".join(lines), "m.mtl": library, **dict.fromkeys(names, content)}
    )


def spellings(folder: Path, rng: Rng) -> Path:
    """One image under many spellings of its name."""
    count, side = _log(rng, 2, 400), _log(rng, 512, 8192)
    spelled = [
        "./" * k + str(rng.choice(["tex.png", "TEX.PNG", "a/../tex.png", "C:\\x\\tex.png", ".//tex.png"]))
        for k in range(count)
    ]
    library = "".join(f"newmtl m{k}\nmap_Kd {n}\n" for k, n in enumerate(spelled)).encode()
    obj = textured_obj().replace(b"usemtl cloth\n", b"")
    for k in range(count):
        obj += b"usemtl m%d\nf 1/1 2/2 30/30\n" % k
    return _write(folder, {"a.obj": obj, "m.mtl": library, "tex.png": _png(side, side)})


def instances(folder: Path, rng: Rng) -> Path:
    """Many nodes of one mesh, or many primitives of one accessor."""
    count = _log(rng, 10, 200_000)
    root, data = gltf_parts(VERTICES, FACES, COLORS / 255.0, UV, png_bytes(COLORS[:4].reshape(2, 2, 3)))
    if rng.random() < 0.5:
        root["nodes"] = [{"mesh": 0}] * min(count, 100_000)
        root["scenes"] = [{"nodes": list(range(len(root["nodes"])))}]
    else:
        root["meshes"][0]["primitives"] = root["meshes"][0]["primitives"] * min(count, 60_000)
    return _write(folder, {"a.glb": glb_bytes(root, data)})


def accessors(folder: Path, rng: Rng) -> Path:
    """Counts, strides and offsets out of all proportion; sparse accessors over nothing."""
    root, data = gltf_parts(VERTICES, FACES, uv=UV)
    huge = [0, -1, 1, 3, 255, 2**31, 10**9, 10**30, 2**63, 40_000_000]
    accessor = root["accessors"][rng.integers(0, 3)]
    for key in ("count", "byteOffset"):
        if rng.random() < 0.5:
            accessor[key] = huge[rng.integers(0, len(huge))]
    view = root["bufferViews"][accessor["bufferView"]]
    for key in ("byteStride", "byteOffset", "byteLength"):
        if rng.random() < 0.3:
            view[key] = huge[rng.integers(0, len(huge))]
    if rng.random() < 0.5:
        accessor.pop("bufferView")
        if rng.random() < 0.7:
            sparse = {"count": 3, "indices": {"bufferView": 0, "componentType": 5125}, "values": {"bufferView": 0}}
            accessor["sparse"] = sparse
    return _write(folder, {"a.glb": glb_bytes(root, data)})


def nesting(folder: Path, rng: Rng) -> Path:
    """Deep or wide structures in JSON, VRML and scenes."""
    count = _log(rng, 100, 2_000_000)
    kind = rng.integers(0, 5)
    if kind == 0:
        return _write(folder, {"a.gltf": b'{"asset":{},"nodes":' + b"[" * count})
    if kind == 1:
        return _write(folder, {"a.gltf": b'{"asset":{},"nodes":[' + b'{"a":1},' * min(count, 900_000) + b"{}]}"})
    if kind == 2:
        return _write(folder, {"a.wrl": b"#VRML V2.0 utf8\n" + b"Group { children [ " * min(count, 400_000)})
    if kind == 3:
        root, data = gltf_parts(VERTICES, FACES)
        root["nodes"] = [{"children": [k + 1]} for k in range(min(count, 50_000))] + [{"mesh": 0}]
        return _write(folder, {"a.glb": glb_bytes(root, data)})
    return _write(folder, {"a.json": b'{"fx":' * min(count, 1_000_000)})


_RUNS = [
    b'"', b"\\", b'\\"', b"#", b"a", b" ", b"\t", b"\r", b"{", b"[", b"]", b"}", b"0", b"/", b"//", b",", b";", b"-", b"a b",
    b"url [",
    b"point [", b"1 ", b"1,", b"'", b"\\\n", b"\n", b"\r\n", b"\0", b"\xff", b'","', b"v 0 0 0\n", b"f 1 1 1\n", b"usemtl a\n",
    b"mtllib a\n", b"#MRGB ff\n", b"vt 0\n", b"0;0\n", b"DEF a USE ", b"depthdepth", b"e", b"1e5 ",
]  # fmt: skip


_STARTS = [
    ("a.wrl", b"#VRML V2.0 utf8\n"), ("a.wrl", wrl_bytes(VERTICES, FACES)[:-40]), ("a.obj", b""), ("a.obj", textured_obj()),
    ("a.xyz", b""), ("a.csv", b"x,y,z\n1,2,3\n"), ("a.csv", b'"1,5";"2,5";"3,5"\n' * 300), ("a.txt", b"1 2 3\n"),
    ("a.off", b"OFF\n9 9 9\n"), ("a.stl", b"solid a\nfacet\nvertex 0 0 0\n"), ("a.gltf", b'{"asset": "'), ("a.json", b'{"'),
    ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\n"), ("a.pcd", b"VERSION 0.7\nFIELDS x y z\n"),
    ("a.pts", b"9\n1 2 3\n"), ("a.npz", b"PK\x03\x04"),
]  # fmt: skip


def runs(folder: Path, rng: Rng) -> Path:
    """Long runs of a few bytes after a valid start, which slow down backtracking expressions and quadratic scans."""
    name, start = _STARTS[rng.integers(0, len(_STARTS))]
    body = b"".join(_RUNS[rng.integers(0, len(_RUNS))] * _log(rng, 1, 200_000) for _ in range(rng.integers(1, 5)))
    size = 10_000_000 if rng.random() < 0.05 else 300_000
    return _write(folder, {name: start + (body * (size // max(len(body), 1) + 1))[:size], "a.mtl": MTL})


def polygons(folder: Path, rng: Rng) -> Path:
    """Faces of very many corners, and very many faces of one vertex."""
    count = _log(rng, 1000, 4_500_000 if rng.random() < 0.1 else 200_000)
    corners = b" ".join([b"1"] * count)
    if rng.random() < 0.3:
        obj = obj_bytes(VERTICES, FACES) + b"f " + corners[: 1 << 22] + b"\n"
    elif rng.random() < 0.5:
        obj = obj_bytes(VERTICES, FACES) + b"f 1 2 3\n" * min(count, 1_200_000)
    else:
        wide = b"f " + b"1 " * 1000 + b"\n"
        return _write(folder, {"a.obj": obj_bytes(VERTICES, FACES) + wide * (count // 1000)})
    return _write(folder, {"a.obj": obj})


def claims(folder: Path, rng: Rng) -> Path:
    """Archives and headers that claim, or hold, far more than their size."""
    kind = rng.integers(0, 7)
    count = _log(rng, 1000, 60_000_000)
    if kind == 0:
        return _write(folder, {"a.npz": npz_bytes(points=np.zeros((min(count, 25_000_000), 3), np.int8))})
    if kind == 1:
        return _write(
            folder, {"a.npz": npz_bytes(points=VERTICES, faces=np.zeros((min(count, 20_000_000), 3), np.uint8))}
        )
    if kind == 2:
        return _write(
            folder,
            {"a.zip": zip_bytes({"a.obj": obj_bytes(VERTICES, FACES), "b.bin": b"\0" * min(count * 5, 400_000_000)})},
        )
    if kind == 3:
        return _write(
            folder, {"a.zip": zip_bytes({"a.obj": b"v 0 0 0\n" * min(count, 10_000_000) + b"f 1 1 1\n" * 1000})}
        )
    if kind == 4:
        head = (
            b"VERSION 0.7\nFIELDS x y z\nSIZE 1 1 1\nTYPE I I I\nWIDTH %d\nHEIGHT 1\nDATA binary_compressed\n" % count
        )
        body = b"\xe0\xff\x00" * (count * 3 // 264 + 1)
        return _write(folder, {"a.pcd": head + struct.pack("<II", len(body), count * 3) + body})
    if kind == 5:
        header = npy_bytes(np.zeros((2, 2), np.uint16))[:-8].replace(b"(2, 2)", b"(%d, 2)" % count)
        return _write(folder, {"a.npz": zip_bytes({"points.npy": header, "vertices.npy": header})})
    names = {f"{k}.ply": b"" for k in range(min(count, 60_000))}
    return _write(folder, {"a.zip": zip_bytes(names, zipfile.ZIP_STORED)})


def pictures(folder: Path, rng: Rng) -> Path:
    """Images that are slow or large to decode: many scans, run lengths, side chunks, odd modes, all sizes."""
    kind = rng.integers(0, 7)
    noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    name, out = "tex.png", io.BytesIO()
    if kind == 0:
        name = "tex.jpg"
        Image.new("RGB", (_log(rng, 64, 8000),) * 2).save(out, "JPEG", progressive=True)
        data = out.getvalue()
        scan = data[data.index(b"\xff\xda") : -2]
        out = io.BytesIO(data[:-2] + scan * int(rng.integers(1, 200)) + data[-2:])
    elif kind == 1:
        name, side = "tex.bmp", _log(rng, 64, 8000)
        head = struct.pack("<2sIIIIiiHHIIIIII", b"BM", 0, 0, 1078, 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0)
        out.write(head + b"\0" * 1024 + bytes([255, 7]) * (side * side // 255 + 1) + b"\0\1")
    elif kind == 2:
        Image.fromarray(noise[..., 0].astype(np.int32) * 257).save(out, "TIFF")
    elif kind == 3:
        Image.new("CMYK", (_log(rng, 64, 4000),) * 2).save(out, "JPEG", progressive=True)
    elif kind == 4:
        Image.new("P", (_log(rng, 64, 8192),) * 2).save(out, "PNG", transparency=0)
    elif kind == 5:
        side = _log(rng, 64, 8192)
        Image.new("RGBA", (side, side)).save(out, "PNG", compress_level=1)
    else:
        out.write(_png(_log(rng, 1, 60_000), _log(rng, 1, 60_000 if rng.random() < 0.1 else 2000)))
    content = out.getvalue()[:10_000_000]
    if rng.random() < 0.3:
        return _write(
            folder,
            {
                "intrinsics.json": _layout(color=name),
                name: content,
                "depth.png": png_bytes(np.full((24, 32), 500, np.uint16)),
            },
        )
    return _write(
        folder,
        {
            "a.obj": textured_obj(),
            "m.mtl": MTL.replace(b"tex.png", name.encode()).replace(b"tex.jpg", name.encode()),
            name: content,
        },
    )


def _layout(**keys: Any) -> bytes:
    return json.dumps({"fx": 40, "fy": 40, "cx": 16, "cy": 12, "width": 32, "height": 24, **keys}).encode()


def depths(folder: Path, rng: Rng) -> Path:
    """Depth images of any size and type."""
    height, width = _log(rng, 1, 6000), _log(rng, 1, 6000)
    kind = rng.integers(0, 3)
    if kind == 0:
        files = {"depth.npy": npy_bytes(np.zeros((height, width), np.uint8))[:10_000_000]}
    elif kind == 1:
        files = {"depth.npz": npz_bytes(depth=np.ones((height, width), np.float64))}
    else:
        files = {"depth.png": png_bytes(np.ones((height, width), np.uint16))}
    scale = {"depth_scale": float(rng.choice([0.001, 1.0, 5000.0, 0.0, 1e-300, 1e9])), "width": width, "height": height}
    return _write(folder, {"intrinsics.json": _layout(**scale), **files, "color.png": _png(width, height)})


def links(folder: Path, rng: Rng) -> Path:
    """FIFOs, sockets, devices, folders and links out of the folder, where a scan's own files are expected."""
    secret = folder.parent / "secret.png"
    if not secret.exists():
        secret.write_bytes(png_bytes(np.full((8, 8, 3), SECRET, np.uint8)))
    kind = rng.integers(0, 4)
    scan = [
        {"a.obj": textured_obj(), "m.mtl": MTL.replace(b"cloth", b"c2")},
        {"a.gltf": _beside(), "m.bin": b""},
        {"intrinsics.json": _layout(depth="tex.jpg", color="tex.png")},
        {"a.wrl": wrl_bytes(VERTICES, FACES, None, UV, str(rng.choice(["tex.png", "../secret.png", str(secret)])))},
    ][kind]
    path = _write(folder, scan)
    for name in ("tex.png", "tex.jpg", "m.mtl", "m.bin", path.name):
        if rng.random() < (0.7 if name != path.name else 0.1):
            block(folder / name, rng, secret)
    return path


def block(path: Path, rng: Rng, elsewhere: Path) -> None:
    """Put something other than a regular file in a file's place; one kind is a link to ``elsewhere``."""
    path.unlink(missing_ok=True)
    what = rng.integers(0, 7)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.mkdir()
    elif what == 2:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{(place := os.open(path.parent, os.O_RDONLY))}/{path.name}")
            os.close(place)
    else:
        path.symlink_to([elsewhere, "/dev/zero", path.name, "/dev/stdin"][what - 3])


def _beside() -> bytes:
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=b"")
    root["images"] = [{"uri": "tex.png"}]
    root["buffers"] = [{"byteLength": len(data), "uri": "m.bin"}]
    return json.dumps(root).encode()


KINDS: dict[str, Callable[[Path, Rng], Path]] = {
    f.__name__: f
    for f in (
        materials, images, spellings, instances, accessors, nesting, runs, polygons, claims, pictures, depths, links,
    )
}  # fmt: skip
