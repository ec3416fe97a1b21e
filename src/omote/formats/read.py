"""Any supported scan file → `PointCloud`, `Mesh` or `Rgbd`, with a report of everything that was dropped."""

from __future__ import annotations

import importlib
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omote.errors import ScanError
from omote.formats.clean import clean
from omote.formats.limits import MAX_FILE_BYTES, RawScan
from omote.formats.source import Source, open_regular
from omote.types import Mesh, PointCloud, Rgbd

MIN_POINTS = 500

# Format of each suffix; a reader is imported when its format is first needed.
FORMATS = {
    ".ply": "ply", ".obj": "obj", ".glb": "glb", ".gltf": "gltf", ".stl": "stl", ".off": "off", ".coff": "off",
    ".pcd": "pcd", ".xyz": "xyz", ".txt": "xyz", ".csv": "xyz", ".asc": "xyz", ".pts": "xyz", ".npz": "npz", ".wrl": "wrl",
    ".usdz": "usdz", ".zip": "zip", ".r3d": "r3d", ".json": "rgbd",
}  # fmt: skip
_READERS = {
    "ply": "ply.read_ply", "obj": "obj.read_obj", "glb": "gltf.read_glb", "gltf": "gltf.read_gltf",
    "stl": "stl.read_stl", "off": "off.read_off", "pcd": "pcd.read_pcd", "xyz": "tables.read_table", "npz": "npz.read_npz",
    "wrl": "wrl.read_wrl", "usdz": "foreign.read_usdz", "rgbd": "frame.read_frame", "r3d": "archive.read_r3d",
}  # fmt: skip
_ALWAYS_RECOGNISED = ("ply", "glb", "pcd", "off", "wrl")  # these have a signature; others may start with anything
_ZIPS = ("npz", "usdz", "zip", "r3d")
_CONVERT = {
    ".fbx": "in Blender, File > Import > FBX, then File > Export > glTF 2.0",
    ".blend": "in Blender, File > Export > glTF 2.0",
    ".dae": "in Blender, File > Import > Collada, then File > Export > glTF 2.0",
    ".3ds": "in MeshLab, File > Export Mesh As > PLY",
    ".e57": "in CloudCompare, File > Save > PLY",
    ".splat": "in SuperSplat, File > Export > PLY",
    ".spz": "in SuperSplat, File > Export > PLY",
    ".las": "in CloudCompare, File > Save > PLY",
    ".laz": "in CloudCompare, File > Save > PLY",
}
_DARK, _BRIGHT = 0.02, 0.995
PLAIN = "no colour was read: the skin will be drawn"  # the first note of a scan without colour


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """Facts about a scan that was read, and counts of what cleaning removed.

    Attributes:
        format: ``ply``, ``obj``, ``glb``, ``gltf``, ``stl``, ``off``, ``pcd``, ``xyz``, ``npz``, ``wrl``, ``usdz``, ``r3d`` or
            ``rgbd``; for a zip archive, the format of the scan in it.
        kind: ``mesh``, ``points`` or ``rgbd``.
        num_points: number of usable points, vertices or pixels.
        num_faces: number of faces; 0 for points.
        num_dropped_nan: number of points with a coordinate that is NaN, infinite or beyond 1e18, or of pixels without depth.
        num_duplicates: number of points at the same position as another.
        num_unused: number of a mesh's vertices without a face.
        num_degenerate_faces: number of faces with equal corners or no area.
        has_color: whether colours were read, per point, from a texture or per pixel.
        notes: sentences on what was left out or changed; the first one says so if no colour was read.
    """

    format: str
    kind: str
    num_points: int
    num_faces: int = 0
    num_dropped_nan: int = 0
    num_duplicates: int = 0
    num_unused: int = 0
    num_degenerate_faces: int = 0
    has_color: bool = False
    notes: tuple[str, ...] = ()


def read(path: Path | str) -> PointCloud | Mesh | Rgbd:
    """Read a scan: PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ/CSV, NPZ, WRL, USDZ, a zip archive of one, or an RGB-D frame.

    An RGB-D frame is a folder, a JSON file or a Record3D recording. Points keep the file's unit and orientation. NaNs, duplicate
    points, unused vertices and degenerate faces are dropped. A missing texture is left out; the report of `read_with_report`
    mentions it. `omote.formats.frame` describes the layout of RGB-D frames, `omote.formats.npz` the keys of NPZ and
    `omote.formats.tables` the columns of text tables.

    Args:
        path: scan file or RGB-D folder; the suffix gives the format, and the content must match it.

    Raises:
        ScanError: the scan is missing, unreadable, damaged, not of the format that its suffix gives, over the limits (2 GiB, 12
            million points, 24 million faces; fewer for small files), or has fewer than 500 usable points.
    """
    return read_with_report(path)[0]


def read_with_report(path: Path | str, *, min_points: int = MIN_POINTS) -> tuple[PointCloud | Mesh | Rgbd, ReadReport]:
    """Read a scan like `read`, and report on it.

    Args:
        path: scan file or RGB-D folder, as for `read`.
        min_points: smallest number of usable points, vertices or pixels.

    Raises:
        ScanError: as for `read`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = _frame_of(path)
        format_name, size = _check_file(path)
        # Cleaning handles NaNs and overflows in the file's numbers, so NumPy need not warn of them.
        with open_regular(path) as file, np.errstate(all="ignore"):
            source = Source(path=path, file=file, size=size, paid_bytes=size)
            if format_name != "zip":
                return _read(source, format_name, min_points)
            from omote.formats.archive import unpacked

            with unpacked(source) as inner:
                return _read_unpacked(inner, path, min_points)
    except OSError as error:
        raise _unreadable(path, error) from error
    except MemoryError:
        raise ScanError(f"{path.name}: too large for this computer's memory; crop or thin the scan first") from None


def _read_unpacked(inner: Source, archive: Path, min_points: int) -> tuple[PointCloud | Mesh | Rgbd, ReadReport]:
    try:
        format_name, _ = _check_file(inner.path)
        return _read(inner, format_name, min_points)
    except ScanError as error:
        raise ScanError(f"{archive.name}: {str(error).removeprefix(f'{inner.path.parent}/')}") from None


def _read(source: Source, format_name: str, min_points: int) -> tuple[PointCloud | Mesh | Rgbd, ReadReport]:
    module, function = _READERS[format_name].split(".")
    found: RawScan | Rgbd = getattr(importlib.import_module(f"omote.formats.{module}"), function)(source)
    if isinstance(found, Rgbd):
        return _finish_frame(found, source, format_name, min_points)
    return _finish(found, source, format_name, min_points)


def _unreadable(path: Path, error: OSError) -> ScanError:
    if isinstance(error, FileNotFoundError):
        return ScanError(f"{path}: no such file; check the path")
    if isinstance(error, PermissionError):
        return ScanError(f"{path}: no permission to read it; change its permissions or copy it")
    return ScanError(f"{path}: cannot be read ({error.strerror or error}); copy it to another disk and try again")


def _check_file(path: Path) -> tuple[str, int]:
    """Check that suffix and content agree; return the format and the size in bytes."""
    try:
        status = path.stat()
    except ValueError:  # a null byte in the path
        raise ScanError(f"{str(path)!r}: no such file; check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise ScanError(f"{path}: expected a file, got a device or pipe; save the scan to a file first")

    suffix = path.suffix.lower()
    expected = FORMATS.get(suffix)
    if suffix in _CONVERT:
        raise ScanError(f"{path.name}: {suffix[1:].upper()} is not read; convert it: {_CONVERT[suffix]}")
    if expected is None:
        raise ScanError(
            f"{path.name}: expected a scan file ({' '.join(FORMATS)}) or an RGB-D folder, got {path.suffix or 'no'!r} "
            "suffix; export the scan as PLY, OBJ or GLB"
        )

    if status.st_size == 0:
        raise ScanError(f"{path.name}: expected a scan, got an empty file; copy or export it again")
    if status.st_size > MAX_FILE_BYTES:
        raise ScanError(
            f"{path.name}: expected at most {MAX_FILE_BYTES:,} bytes, got {status.st_size:,}; thin the scan first"
        )

    with open_regular(path) as file:
        found = sniff(file.read(512))
    if found == "zip" and expected in _ZIPS:
        return expected, status.st_size
    if found != expected and (found is not None or expected in (*_ALWAYS_RECOGNISED, *_ZIPS)):
        what = (
            f"the content is {found.upper()}; rename it" if found else "the content is something else; export it again"
        )
        raise ScanError(f"{path.name}: expected {expected.upper()} content from its name, but {what}")
    return expected, status.st_size


def sniff(head: bytes) -> str | None:
    """Return the format that a file's first bytes show, or None; some formats that are no scans are recognised too."""
    if head[:3] == b"ply" and head[3:4] in (b"\n", b"\r", b" "):
        return "ply"
    if head[:4] == b"glTF":
        return "glb"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"

    for signature, name in (
        (b"\x89PNG", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"%PDF", "pdf"),
        (b"Kaydara FBX", "fbx"),
        (b"\x1f\x8b", "gzip"),
        (b"II*\x00", "tiff"),
        (b"BLENDER", "blend"),
        (b"<?xml", "xml"),
        (b"#VRML V2.0", "wrl"),
        (b"#VRML V1.0", "vrml 1.0"),
    ):
        if head.startswith(signature):
            return name

    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    words = text.split(None, 1)
    if text.startswith(b"# .PCD") or (words and words[0] == b"VERSION" and b"FIELDS" in head):
        return "pcd"
    if words and words[0] in (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF", b"STCOFF", b"STNOFF", b"4OFF", b"nOFF"):
        return "off"
    if text.startswith(b"#"):  # comments may come before OFF
        for line in text.split(b"\n"):
            if line.strip() and not line.lstrip().startswith(b"#"):
                return "off" if line.split()[0] in (b"OFF", b"COFF", b"NOFF") else None
    return None


def _frame_of(folder: Path) -> Path:
    from omote.formats.frame import find_frame_json

    found = find_frame_json(folder)
    if found is None:
        raise ScanError(
            f"{folder}: expected a scan file, or an RGB-D folder with intrinsics.json, got a folder without it; "
            "give a file inside it"
        )
    return found


def _finish_frame(rgbd: Rgbd, source: Source, format_name: str, min_points: int) -> tuple[Rgbd, ReadReport]:
    num_valid = int(rgbd.mask.sum())
    if num_valid < min_points:
        raise ScanError(
            f"{source.path.name}: expected at least {min_points:,} pixels with depth, got {num_valid:,}; check the depth image"
        )
    _check_plausible(rgbd.rgb[rgbd.mask], source)
    return rgbd, ReadReport(
        format=format_name,
        kind="rgbd",
        num_points=num_valid,
        num_dropped_nan=rgbd.mask.size - num_valid,
        has_color=True,
        notes=tuple(source.notes),
    )


def _finish(raw: RawScan, source: Source, format_name: str, min_points: int) -> tuple[PointCloud | Mesh, ReadReport]:
    num_read = len(raw.points)
    raw, counts = clean(raw)
    if len(raw.points) < min_points:
        raise ScanError(
            f"{source.path.name}: expected at least {min_points:,} usable points, got {len(raw.points):,} of {num_read:,} "
            f"({counts.num_dropped_nan:,} not finite, {counts.num_duplicates:,} duplicate, {counts.num_unused:,} in no "
            "face); give a denser scan"
        )

    scan: PointCloud | Mesh
    if raw.faces is None:
        scan = PointCloud(points=raw.points, colors=raw.colors, normals=raw.normals)
    else:
        scan = Mesh(
            vertices=raw.points,
            faces=raw.faces,
            vertex_colors=raw.colors,
            uv=raw.uv if raw.uv is None else np.nan_to_num(raw.uv, nan=0.0, posinf=0.0, neginf=0.0),
            faces_uv=raw.faces_uv,
            texture=raw.texture,
        )

    if raw.texture is not None:
        _check_plausible(raw.texture[::8, ::8].reshape(-1, 3), source)
    elif raw.colors is not None:
        _check_plausible(raw.colors, source)

    notes = tuple(source.notes)
    if raw.texture is None and raw.colors is None:
        notes = (PLAIN, *notes)
    return scan, ReadReport(
        format=format_name,
        kind="points" if raw.faces is None else "mesh",
        num_points=len(raw.points),
        num_faces=0 if raw.faces is None else len(raw.faces),
        num_dropped_nan=counts.num_dropped_nan,
        num_duplicates=counts.num_duplicates,
        num_unused=counts.num_unused,
        num_degenerate_faces=counts.num_degenerate_faces,
        has_color=raw.colors is not None or raw.texture is not None,
        notes=notes,
    )


def _check_plausible(colors: np.ndarray, source: Source) -> None:
    """Note colours that cannot be skin: nearly black or nearly white everywhere."""
    mean = float(colors.mean()) if colors.size else 0.5
    if mean < _DARK or mean > _BRIGHT:
        source.note(f"the colours look wrong: {'black' if mean < _DARK else 'white'} nearly throughout")
