"""The process in which third-party libraries unpack a scan (`omote.formats.foreign`). Input and output are NPZ files."""

from __future__ import annotations

import json
import posixpath
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_REFUSED, _MEMORY = 4, 5
_MAX_LAYERS, _MAX_PARTS = 64, 2000


def main() -> None:
    """Unpack a scan; command line: ``kind scan in.npz out.npz megabytes output_bytes seconds``."""
    kind, scan, packed, out = sys.argv[1:5]
    megabytes, most, seconds = map(int, sys.argv[5:8])
    with np.load(packed, allow_pickle=False) as held:
        inputs = [held[key].tobytes() for key in sorted(held.files, key=int)]
    unpack = {"draco": _draco, "lzfse": _lzfse, "usd": _usd}[kind]
    try:
        arrays = unpack(inputs, scan, lambda: _limit(megabytes, most, seconds))
        np.savez(out, **arrays)  # type: ignore[arg-type]
    except MemoryError:
        sys.exit(_MEMORY)
    except Exception as error:  # libraries raise all kinds of errors; the caller reports them in one line
        reasons = re.findall(r" : '(.*)'", str(error))  # USD: " Error in 'function' at line N in file F : 'reason'"
        print(" ".join((reasons[-1] if reasons else str(error)).split())[-300:], file=sys.stderr)
        sys.exit(_REFUSED)


def _limit(megabytes: int, most: int, seconds: int) -> None:
    """Limit memory (beyond that of the imported libraries), output and processor time; no effect on Windows."""
    try:
        import resource
    except ImportError:
        return
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: most + (1 << 20)}
    if (status := Path("/proc/self/statm")).exists():
        held = int(status.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = held + (megabytes << 20)
    for kind, wanted in limits.items():  # a stricter limit set by the user stays
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lzfse(inputs: list[bytes], scan: str, limit: Callable[[], None]) -> dict[str, np.ndarray]:
    import lzfse

    limit()
    return {"0": np.frombuffer(lzfse.decompress(inputs[0]), np.uint8)}


def _draco(inputs: list[bytes], scan: str, limit: Callable[[], None]) -> dict[str, np.ndarray]:
    import DracoPy

    limit()
    out: dict[str, np.ndarray] = {}
    for number, data in enumerate(inputs):
        mesh = DracoPy.decode(data)
        faces = getattr(mesh, "faces", None)
        if faces is not None:
            out[f"{number}.faces"] = np.asarray(faces).reshape(-1, 3)
        for attribute in mesh.attributes:
            out[f"{number}.{int(attribute['unique_id'])}"] = np.asarray(attribute["data"])
    return out


def _usd(inputs: list[bytes], scan: str, limit: Callable[[], None]) -> dict[str, np.ndarray]:
    from pxr import Usd, UsdGeom

    limit()
    _check_layers(scan)
    stage = Usd.Stage.Open(scan)
    if stage is None:
        raise ValueError("no USD stage in it")
    materials: dict[tuple[tuple[float, ...], str], int] = {((1.0, 1.0, 1.0), ""): 0}
    out: dict[str, np.ndarray] = {}
    parts = 0
    for prim in Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()):
        if prim.IsA(UsdGeom.Mesh):
            if parts == _MAX_PARTS:
                raise ValueError(f"more than {_MAX_PARTS} meshes")
            _add_mesh(UsdGeom.Mesh(prim), parts, materials, out)
            parts += 1
    listed = [{"color": color, "image": image} for color, image in materials]
    out["meta"] = np.frombuffer(json.dumps({"parts": parts, "materials": listed}).encode(), np.uint8)
    return out


def _check_layers(scan: str) -> None:
    """Refuse a package with a layer that refers to files outside the package, before any of them is opened."""
    from pxr import Sdf

    with zipfile.ZipFile(scan) as package:
        listed = sorted(package.infolist(), key=lambda info: info.header_offset)
    names = {info.filename for info in listed}
    root = listed[0].filename if listed else ""
    left, seen = [(scan, root)], {root}
    while left:
        opened, inner = left.pop()
        layer = Sdf.Layer.FindOrOpen(opened)
        if layer is None:
            raise ValueError("no USD layer in it")

        def no_clips(path: Any, layer: Any = layer) -> None:
            spec = layer.GetObjectAtPath(path)
            if isinstance(spec, Sdf.PrimSpec) and spec.HasInfo("clips"):
                raise ValueError("it has value clips, which are not read")

        layer.Traverse(Sdf.Path.absoluteRootPath, no_clips)
        for dependency in layer.GetCompositionAssetDependencies():
            name = posixpath.normpath(posixpath.join(posixpath.dirname(inner), dependency))
            if name not in names or len(seen) > _MAX_LAYERS:
                raise ValueError(f"it refers to {dependency[:80]!r}, which is not in the package")
            if name not in seen:
                seen.add(name)
                left.append((f"{scan}[{name}]", name))


def _add_mesh(
    mesh: Any, number: int, materials: dict[tuple[tuple[float, ...], str], int], out: dict[str, np.ndarray]
) -> None:
    from pxr import Usd, UsdGeom, UsdShade

    time = Usd.TimeCode.EarliestTime()
    points = np.asarray(mesh.GetPointsAttr().Get(time) or [], np.float64).reshape(-1, 3)
    counts = np.asarray(mesh.GetFaceVertexCountsAttr().Get(time) or [], np.int64)
    indices = np.asarray(mesh.GetFaceVertexIndicesAttr().Get(time) or [], np.int64)
    matrix = np.array(UsdGeom.Xformable(mesh.GetPrim()).ComputeLocalToWorldTransform(time))  # for row vectors
    order = np.arange(len(indices))
    flipped = (np.linalg.det(matrix[:3, :3]) < 0.0) != (mesh.GetOrientationAttr().Get() == "leftHanded")
    if flipped and counts.min(initial=0) >= 0 and counts.sum() == len(indices):  # reverse the order of the corners
        order = np.repeat(2 * np.cumsum(counts) - counts - 1, counts) - order
        indices = indices[order]
    out[f"{number}.points"] = points @ matrix[:3, :3] + matrix[3, :3]
    out[f"{number}.counts"], out[f"{number}.indices"] = counts, indices
    colors = mesh.GetDisplayColorPrimvar().ComputeFlattened(time)
    colors = np.asarray(colors if colors else [], np.float32).reshape(-1, 3)
    out[f"{number}.colors"] = colors if len(colors) in (1, len(points)) else np.full((1, 3), np.nan, np.float32)
    primvars = UsdGeom.PrimvarsAPI(mesh.GetPrim()).GetPrimvarsWithValues()
    named = {p.GetPrimvarName(): p for p in primvars}
    uv = next((named[n] for n in ("st", "UVMap", "st0", "st_0", "uv", "map1") if n in named), None)
    uv = uv or next(
        (p for p in primvars if "float2[]" in str(p.GetTypeName()) or "texCoord2" in str(p.GetTypeName())), None
    )
    if uv is not None:
        values = np.asarray(uv.ComputeFlattened(time), np.float64).reshape(-1, 2)
        if flipped and len(values) == len(indices) != len(points):
            values = values[order]
        out[f"{number}.uv"] = values
    whole = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()[0]
    owner = np.full(len(counts), _material(whole, materials))
    for subset in UsdShade.MaterialBindingAPI(mesh.GetPrim()).GetMaterialBindSubsets():
        own = UsdShade.MaterialBindingAPI(subset.GetPrim()).ComputeBoundMaterial()[0]
        places = np.asarray(subset.GetIndicesAttr().Get(time) or [], np.int64)
        owner[places[(places >= 0) & (places < len(owner))]] = _material(own, materials)
    out[f"{number}.material"] = owner


def _material(material: Any, materials: dict[tuple[tuple[float, ...], str], int]) -> int:
    """Number of a material by its diffuse colour and texture."""
    from pxr import UsdShade

    color: tuple[float, ...] = (1.0, 1.0, 1.0)
    image = ""
    surface = material.ComputeSurfaceSource()[0] if material else None
    for name in ("diffuseColor", "emissiveColor"):
        diffuse = surface.GetInput(name) if surface else None
        if not diffuse or image or (name == "emissiveColor" and any(color) and color != (1.0, 1.0, 1.0)):
            continue  # emission counts as the colour only of materials without a diffuse colour
        value = diffuse.Get()
        color = tuple(float(v) for v in value) if value is not None else color
        sources = diffuse.GetConnectedSources()[0]
        if sources:
            texture = UsdShade.Shader(sources[0].source.GetPrim())
            file = texture.GetInput("file").Get() if texture.GetInput("file") else None
            if file is not None:
                inside = file.resolvedPath.rpartition("[")[2].rstrip("]")
                image = inside if "[" in file.resolvedPath else file.path
    return materials.setdefault((color, image), len(materials))
