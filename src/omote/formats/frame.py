"""One frame of a depth camera: colour image, depth image and intrinsics → `Rgbd`.

The frame is a JSON file, or a folder with an ``intrinsics.json``, ``camera.json`` or a single JSON file::

    {
      "color": "color.png",        // PNG, JPEG …; default: color.* or rgb.* in the folder
      "depth": "depth.png",        // 16-bit PNG or TIFF, 32-bit float TIFF, .npy, or .npz (its array "depth" or its
                                   // only one); z-depth; default: depth.*
      "depth_scale_mm": 1.0,       // millimetres per unit of the depth image; or
      "depth_unit": "mm",          // "mm", "cm" or "m". 16-bit depth without either is taken as millimetres;
                                   // float depth needs one of them
      "intrinsics": {              // or the name of a JSON file; or these keys at the top level
        "width": 640, "height": 480,
        "fx": 600.0, "fy": 600.0, "cx": 320.0, "cy": 240.0
      },
      "pixel_center": 0.5          // where cx, cy count a pixel's centre: 0.5 (default) or 0 (OpenCV, RealSense)
    }

``ppx``/``ppy`` are read as ``cx``/``cy``, and Open3D's column-major ``intrinsic_matrix`` as all four. Depth that is
zero, negative, NaN or infinite is invalid. Colour and depth must be registered (the same view); where their sizes
differ by a common factor, the frame has the depth's size and the colour is resampled to it.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.images import MAX_PIXELS, decode, open_image, read_rgb
from omote.formats.limits import sibling
from omote.formats.npz import read_array, read_member
from omote.types import Camera, Rgbd

_MAX_JSON_BYTES = 1 << 20
_UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_COLOR_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff")


def find_frame_json(folder: Path) -> Path | None:
    """Find the JSON file that describes an RGB-D folder, or None."""
    for name in ("intrinsics.json", "camera.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.json"))
    return found[0] if len(found) == 1 else None


def read_frame(path: Path) -> tuple[Rgbd, tuple[str, ...]]:
    """Read the frame that a JSON file describes.

    Args:
        path: the JSON file; images lie in its folder.

    Returns:
        The frame, ``cam_from_world`` the identity, and notes for the report.

    Raises:
        ScanError: a key is missing or wrong, or an image is missing, damaged, too large or of another size.
    """
    layout = read_json(path)
    color_path = _image(path, layout, "color", ("color", "rgb"), _COLOR_SUFFIXES)
    depth_path = _image(path, layout, "depth", ("depth",), _DEPTH_SUFFIXES)
    depth, is_float = _read_depth(depth_path)
    depth_mm = depth * _depth_scale_mm(path, layout, is_float=is_float)
    height, width = depth_mm.shape
    intrinsics, camera_size = _intrinsics(path, layout, default_size=(width, height))
    notes: list[str] = []
    if camera_size != (width, height):
        _check_aspect(path, "the intrinsics", camera_size, (width, height))
        intrinsics = np.diag([width / camera_size[0], height / camera_size[1], 1.0]) @ intrinsics
    rgb = read_rgb(color_path, color_path.name)
    if rgb.shape[:2] != (height, width):
        _check_aspect(path, color_path.name, (rgb.shape[1], rgb.shape[0]), (width, height))
        notes.append(f"colour resampled from {rgb.shape[1]} × {rgb.shape[0]} to the depth's {width} × {height}")
        rgb = _resample(rgb, width, height)
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(depth_mm) & (depth_mm > 0.0)
    camera = Camera(intrinsics=intrinsics, cam_from_world=np.eye(4), width=width, height=height)
    return Rgbd(rgb=rgb, depth_mm=np.where(mask, depth_mm, 0.0), mask=mask, camera=camera), tuple(notes)


def read_json(path: Path) -> dict:
    """Read a JSON object of bounded size.

    Raises:
        ScanError: unreadable, too large, or not a JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ScanError(f"{path.name}: cannot be read ({error.strerror}); check its permissions") from error
    if len(text) > _MAX_JSON_BYTES:
        raise ScanError(f"{path.name}: expected a JSON file under {_MAX_JSON_BYTES:,} bytes, got a larger one")
    try:
        layout = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path.name}: expected JSON, got a syntax error ({str(error)[:80]}); correct it") from None
    if not isinstance(layout, dict):
        raise ScanError(f"{path.name}: expected a JSON object with intrinsics, got a {type(layout).__name__}")
    return layout


def _image(path: Path, layout: dict, key: str, stems: tuple[str, ...], suffixes: tuple[str, ...]) -> Path:
    name = layout.get(key)
    if name is None:
        candidates = [path.parent / f"{stem}{suffix}" for stem in stems for suffix in suffixes]
        found = next((c for c in candidates if c.is_file()), None)
    elif isinstance(name, str):
        found = sibling(path, name)
    else:
        raise ScanError(f"{path.name}: expected {key!r} to be a file name, got {str(name)[:40]!r}")
    if found is None:
        wanted = repr(name) if name is not None else " or ".join(f"{stem}.*" for stem in stems)
        raise ScanError(f"{path.name}: expected the {key} image {wanted} in the same folder, found none; name it there")
    return found


def _number(path: Path, layout: dict, *names: str, required: bool = True) -> float | None:
    for name in names:
        value = layout.get(name)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or abs(value) > 1e9
        ):
            raise ScanError(f"{path.name}: expected {name!r} to be a number, got {str(value)[:40]!r}; correct it")
        return float(value)
    if required:
        raise ScanError(f"{path.name}: expected the key {names[0]!r}, found none; add the camera's intrinsics")
    return None


def _intrinsics(
    path: Path, layout: dict, *, default_size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], tuple[int, int]]:
    nested = layout.get("intrinsics", layout)
    if isinstance(nested, str):
        found = sibling(path, nested)
        if found is None:
            raise ScanError(f"{path.name}: the intrinsics file {nested[:80]!r} is not in the same folder")
        nested = read_json(found)
    if not isinstance(nested, dict):
        raise ScanError(f"{path.name}: expected 'intrinsics' to be an object or a file name")
    matrix = nested.get("intrinsic_matrix")
    if matrix is not None:
        if not isinstance(matrix, list) or len(matrix) != 9:
            raise ScanError(f"{path.name}: expected 'intrinsic_matrix' as 9 numbers, column by column")
        nested = nested | dict(zip(("fx", "fy", "cx", "cy"), (matrix[0], matrix[4], matrix[6], matrix[7]), strict=True))
    values = [_number(path, nested, *names) for names in (("fx",), ("fy",), ("cx", "ppx"), ("cy", "ppy"))]
    fx, fy, cx, cy = (v for v in values if v is not None)
    width = _number(path, nested, "width", required=False) or default_size[0]
    height = _number(path, nested, "height", required=False) or default_size[1]
    if fx <= 0.0 or fy <= 0.0 or width < 1 or height < 1:
        raise ScanError(
            f"{path.name}: expected fx, fy, width and height over 0, got {fx:g}, {fy:g}, {width:g}, {height:g}"
        )
    center = _number(path, layout, "pixel_center", required=False)
    shift = 0.0 if center is None else 0.5 - center
    intrinsics = np.array([[fx, 0.0, cx + shift], [0.0, fy, cy + shift], [0.0, 0.0, 1.0]])
    return intrinsics, (int(width), int(height))


def _depth_scale_mm(path: Path, layout: dict, *, is_float: bool) -> float:
    nested = layout.get("intrinsics")
    both = layout | (nested if isinstance(nested, dict) else {})
    scale = _number(path, both, "depth_scale_mm", required=False)
    if scale is not None:
        if scale <= 0.0:
            raise ScanError(f"{path.name}: expected 'depth_scale_mm' over 0, got {scale:g}")
        return scale
    unit = both.get("depth_unit")
    if unit is None and not is_float:
        return 1.0
    if not isinstance(unit, str) or unit not in _UNITS_MM:
        raise ScanError(
            f'{path.name}: expected \'depth_unit\' as "mm", "cm" or "m" (or \'depth_scale_mm\') for this depth, '
            f"got {str(unit)[:40]!r}; add it"
        )
    return _UNITS_MM[unit]


def _read_depth(path: Path) -> tuple[Float[np.ndarray, "height width"], bool]:
    """Depth in the file's unit, and whether it was stored as floats."""
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                depth = read_array(file, path.stat().st_size, "depth", path, max_items=MAX_PIXELS)
        elif path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = [n.removesuffix(".npy") for n in archive.namelist()]
                key = "depth" if "depth" in names or len(names) != 1 else names[0]
                depth = read_member(archive, key, path, max_items=MAX_PIXELS)
        else:
            image = open_image(path, path.name)
            if not (image.mode.startswith("I") or image.mode == "F"):
                raise ScanError(
                    f"{path.name}: expected 16-bit or float depth, got an 8-bit image ({image.mode}); "
                    "save the depth as a 16-bit PNG, a float TIFF or .npy"
                )
            depth = decode(image, path.name)
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise ScanError(f"{path.name}: the depth cannot be read ({str(error)[:80]}); save it again") from None
    depth = np.squeeze(depth)
    if depth.ndim != 2 or depth.dtype.kind not in "iuf":
        raise ScanError(f"{path.name}: expected depth of shape (height, width), got {depth.shape} of {depth.dtype}")
    return depth.astype(np.float64), depth.dtype.kind == "f"


def _check_aspect(path: Path, what: str, size: tuple[int, int], depth: tuple[int, int]) -> None:
    if abs(size[0] * depth[1] - size[1] * depth[0]) > 0.01 * size[0] * depth[1]:
        raise ScanError(
            f"{path.name}: expected {what} to match the depth's {depth[0]} × {depth[1]}, got {size[0]} × {size[1]}; "
            "register colour and depth to one view"
        )


def _resample(rgb: Float[np.ndarray, "h w 3"], width: int, height: int) -> Float[np.ndarray, "height width 3"]:
    from PIL import Image as pil

    small = pil.fromarray((rgb * 255.0 + 0.5).astype(np.uint8)).resize((width, height), pil.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255.0)
