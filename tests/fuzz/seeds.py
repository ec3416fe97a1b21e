"""Valid scans of every format as folders of small files, for the fuzzer to mutate. The first file is the one that is read."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile

import numpy as np
from PIL import Image

from scan_files import (
    glb_bytes,
    gltf_bytes,
    gltf_parts,
    grid_mesh,
    npz_bytes,
    obj_bytes,
    pcd_bytes,
    ply_bytes,
    png_bytes,
    samples,
    wrl_bytes,
    xyz_bytes,
)  # fmt: skip

Folder = dict[str, bytes]
VERTICES, FACES, COLORS, NORMALS = grid_mesh(n=28)
UV = (VERTICES[:, :2] - VERTICES[:, :2].min(0)) / np.ptp(VERTICES[:, :2], axis=0)
PIXELS = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
MTL = b"newmtl skin\nKd 0.8 0.6 0.5\nmap_Kd -s 1 1 1 tex.png\nnewmtl cloth\nKd 0.1 0.2 0.3\nmap_Kd tex.jpg\n"


def zip_bytes(files: Folder, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def image_bytes(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind, **options)
    return out.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def textured_obj() -> bytes:
    lines = [b"mtllib m.mtl", *obj_bytes(VERTICES, FACES[:0]).split(b"\n")]
    lines += [b"vt %f %f" % tuple(row) for row in UV]
    for k, face in enumerate(FACES + 1):
        lines += [b"usemtl skin"] if k == 0 else [b"usemtl cloth"] if k == 700 else []
        lines.append(b"f " + b" ".join(b"%d/%d" % (v, v) for v in face))
    return b"\n".join(lines) + b"\n"


def frame(depth_name: str, depth: bytes, **keys: object) -> Folder:
    layout = {"fx": 40.0, "fy": 40.0, "ppx": 16.0, "ppy": 12.0, "width": 32, "height": 24, "depth_scale": 0.001, **keys}
    color = np.repeat(np.repeat(PIXELS[:12], 2, 0), 2, 1)
    return {
        "intrinsics.json": json.dumps(layout).encode(),
        depth_name: depth,
        "color.jpg": image_bytes(color, "JPEG"),
    }


def glb(**changes: object) -> bytes:
    root, data = gltf_parts(VERTICES, FACES, COLORS / 255.0, UV, png_bytes(PIXELS))
    return glb_bytes({**root, **changes}, data)


def sparse_glb() -> bytes:
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=png_bytes(PIXELS))
    places, values = np.arange(50, dtype="<u2"), np.ones((50, 3), "<f4")
    views = root["bufferViews"]
    for blob in (places.tobytes(), values.tobytes()):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(blob)})
        data += blob
    root["buffers"] = [{"byteLength": len(data)}]
    root["accessors"][0]["sparse"] = {
        "count": 50,
        "indices": {"bufferView": len(views) - 2, "componentType": 5123},
        "values": {"bufferView": len(views) - 1},
    }
    root["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}}]
    return glb_bytes(root, data)


def meshopt_glb() -> bytes:
    import meshopt

    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=png_bytes(PIXELS))
    for k, (mode, array) in enumerate(
        [("ATTRIBUTES", VERTICES.astype("<f4").view(np.uint8)), ("TRIANGLES", FACES.astype(np.uint32).ravel())]
    ):
        packed = meshopt.encode_gltf_buffer(np.ascontiguousarray(array), mode)
        stride, count = (12, len(VERTICES)) if k == 0 else (4, FACES.size)
        view = {"buffer": 0, "byteOffset": len(data), "byteLength": len(packed), "byteStride": stride}
        root["bufferViews"][k]["extensions"] = {"EXT_meshopt_compression": view | {"count": count, "mode": mode}}
        data += packed
    root["buffers"] = [{"byteLength": len(data)}]
    return glb_bytes(root, data)


def draco_glb() -> bytes:
    import DracoPy

    packed = DracoPy.encode(
        VERTICES.astype(np.float32), FACES.astype(np.uint32), preserve_order=True, quantization_bits=14
    )
    numbers = {a["attribute_type"]: a["unique_id"] for a in DracoPy.decode(packed).attributes}
    root, data = gltf_parts(VERTICES, FACES)
    root["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": len(packed)})
    data += packed
    root["buffers"] = [{"byteLength": len(data)}]
    root["meshes"][0]["primitives"][0]["extensions"] = {
        "KHR_draco_mesh_compression": {
            "bufferView": len(root["bufferViews"]) - 1,
            "attributes": {"POSITION": numbers[0]},
        }
    }
    return glb_bytes(root, data)


def usdz() -> bytes:
    import tempfile
    from pathlib import Path

    from pxr import Sdf, Usd, UsdGeom, UsdShade, UsdUtils

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.png").write_bytes(png_bytes(PIXELS))
        stage = Usd.Stage.CreateNew(f"{folder}/a.usdc")
        mesh = UsdGeom.Mesh.Define(stage, "/m")
        mesh.AddTranslateOp().Set((1, 2, 3))
        mesh.CreatePointsAttr(VERTICES.tolist())
        mesh.CreateFaceVertexCountsAttr([3] * len(FACES))
        mesh.CreateFaceVertexIndicesAttr(FACES.ravel().tolist())
        uv = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
        uv.Set(UV.tolist())
        material = UsdShade.Material.Define(stage, "/skin")
        shader, image = UsdShade.Shader.Define(stage, "/skin/s"), UsdShade.Shader.Define(stage, "/skin/t")
        shader.CreateIdAttr("UsdPreviewSurface")
        image.CreateIdAttr("UsdUVTexture")
        image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set("t.png")
        diffuse = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        diffuse.ConnectToSource(image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3))
        material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
        stage.SetDefaultPrim(mesh.GetPrim())
        stage.GetRootLayer().Save()
        UsdUtils.CreateNewUsdzPackage(f"{folder}/a.usdc", f"{folder}/a.usdz")
        return (Path(folder) / "a.usdz").read_bytes()


def r3d(*, packed: bool) -> bytes:
    depth = np.full((256, 192), 0.5, "<f4").tobytes()
    if packed:
        import lzfse

        depth = lzfse.compress(depth)
    metadata = {"w": 720, "h": 960, "K": [700, 0, 0, 0, 700, 0, 360, 480, 1], "fps": 30, "poses": []}
    color = np.full((960, 720, 3), 128, np.uint8)
    files = {"metadata": json.dumps(metadata).encode(), "rgbd/0.depth": depth, "rgbd/0.jpg": image_bytes(color, "JPEG")}
    return zip_bytes(files, zipfile.ZIP_STORED)


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def seeds() -> dict[str, list[Folder]]:
    """Folders by format."""
    images = {"tex.png": png_bytes(PIXELS), "tex.jpg": image_bytes(PIXELS, "JPEG", progressive=True)}
    out: dict[str, list[Folder]] = {}
    for name, content in samples(VERTICES, FACES, COLORS, NORMALS).items():
        out.setdefault(name.rpartition(".")[2], []).append({name: content})
    ragged = ply_bytes(VERTICES, [*FACES[:-2].tolist(), [*FACES[-2].tolist(), 0]], form="ascii")
    head, _, rows = ply_bytes(VERTICES, FACES, form="ascii").partition(b"end_header\n")
    lines = rows.splitlines()
    lines[len(VERTICES) :] = [line + b" 200 100 50" for line in lines[len(VERTICES) :]]
    extra = b"".join(b"property uchar %s\n" % c for c in (b"red", b"green", b"blue"))
    face_colors = head + extra + b"end_header\n" + b"\n".join(lines) + b"\n"
    out["ply"] += [{"r.ply": ragged}, {"f.ply": face_colors}]
    out["obj"] += [{"m.obj": textured_obj(), "m.mtl": MTL, **images}]
    root, data = gltf_parts(VERTICES, FACES, COLORS / 255.0, UV, png_bytes(PIXELS))
    beside = {**root, "images": [{"uri": "tex.png"}], "buffers": [{"byteLength": len(data), "uri": "m.bin"}]}
    out["gltf"] += [
        {"m.gltf": json.dumps(beside).encode(), "m.bin": data, **images},
        {"d.gltf": gltf_bytes(root, data)},
    ]
    out["glb"] += [{"s.glb": sparse_glb()}, {"n.glb": glb(nodes=[{"mesh": 0, "children": [1]}, {"mesh": 0}])}]
    out["wrl"] += [{"t.wrl": wrl_bytes(VERTICES, FACES, COLORS, UV, "tex.png"), **images}]
    out["pcd"] += [{"n.pcd": pcd_bytes(VERTICES, None, NORMALS, data="binary_compressed")}]
    out["npz"] += [{"c.npz": npz_bytes(points=VERTICES.astype(np.float32), colors=COLORS.astype(np.uint16) * 257)}]
    rows = xyz_bytes(VERTICES, COLORS)
    numbered = b"".join(b"%d," % k + line for k, line in enumerate(rows.replace(b" ", b",").splitlines(True)))
    quoted = b"".join(b'"' + line.replace(b" ", b'";"') + b'"\n' for line in xyz_bytes(VERTICES).splitlines())
    out["table"] = [
        {"a.csv": b",x,y,z,r,g,b\n" + numbered},
        {"a.asc": rows.replace(b".", b",").replace(b" ", b";")},
        {"a.pts": b"784\n" + rows},
        {"a.txt": b"\xff\xfe" + ("//X Y Z R G B\n" + rows.decode()).encode("utf-16-le")},
        {"q.csv": b'"X";"Y";"Z"\n' + quoted},
    ]
    depth = np.full((24, 32), 500, np.uint16)
    out["frame"] = [
        frame("depth.png", png_bytes(depth)),
        frame("depth.npy", npy_bytes(depth), K=[40, 0, 16, 0, 40, 12, 0, 0, 1]),
        frame("depth.npz", npz_bytes(depth=depth.astype(np.float32))),
        frame("depth.tiff", image_bytes(depth.astype(np.float32), "TIFF"), depth_unit="mm"),
    ]
    out["zip"] = [
        {
            "a.zip": zip_bytes(
                {"head/m.obj": textured_obj(), "head/m.mtl": MTL, **{f"head/{k}": v for k, v in images.items()}}
            )
        },
        {"f.zip": zip_bytes(out["frame"][0])},
        {"g.zip": zip_bytes({"m.glb": glb()})},
    ]
    points = np.random.default_rng(0).normal(size=(68, 3))
    out["landmarks"] = [
        {"l.json": json.dumps({"landmarks": points.tolist()}).encode()},
        {"l.npy": npy_bytes(points)},
        {"l.txt": xyz_bytes(points)},
    ]
    out["r3d"] = [{"a.r3d": r3d(packed=has("lzfse"))}, {"b.r3d": r3d(packed=False)}]
    out["draco"] = [{"a.glb": draco_glb()}] if has("DracoPy") else []
    out["meshopt"] = [{"a.glb": meshopt_glb()}] if has("meshopt") else []
    out["usdz"] = [{"a.usdz": usdz()}] if has("pxr") else []
    return {kind: folders for kind, folders in out.items() if folders}
