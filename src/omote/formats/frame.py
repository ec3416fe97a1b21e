"""One frame of a depth camera: colour image, depth image and intrinsics → `Rgbd`.

The frame is a JSON file, or a folder with an ``intrinsics.json``, ``camera.json`` or a single JSON file::

    {
      "color": "color.png",        // PNG, JPEG …; default: color.*, colour.* or rgb.* in the folder
      "depth": "depth.png",        // 16-bit PNG, TIFF or PGM, 32-bit float TIFF, .npy, or .npz (its array "depth" or its
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

Other cameras' keys are read too: ``ppx``/``ppy`` as ``cx``/``cy`` with pixel centres at integers (RealSense); ``K``,
``camera_matrix`` and Open3D's ``intrinsic_matrix``, stored by rows or by columns, as all four intrinsics; and a depth scale
under any name (``depth_scale``, ``factor``, ``png_depth_scale`` …). Cameras define the scale differently, so its magnitude
decides: under 0.01 it is metres per unit (RealSense), over 50 units per metre (TUM, Kinect, Open3D), otherwise millimetres
per unit. The report states the interpretation and every unused key.

Depth that is zero, negative, NaN or infinite is invalid, and so are a full-scale value (65535, 4095, 2047 …) shared by many
pixels and the value of a key ``invalid`` or ``no_data``. Colour is turned upright by its EXIF orientation, unless only the
stored orientation has the depth's shape. Colour and depth must be registered (the same view); where their sizes differ by a
common factor, the frame has the depth's size and the colour is resampled to it.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.images import decode, open_image, orientation, read_pixels, unit
from omote.formats.npz import DAMAGED, read_array, read_member
from omote.formats.source import Source, open_regular, shown
from omote.types import Camera, Rgbd

MAX_FRAME_PIXELS = 16 << 20
CAMERA_FILES = ("intrinsics.json", "camera.json")
_MAX_JSON_BYTES = 1 << 20
_MAX_ENTRIES = 20_000
_UNITS_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "millimeters": 1.0, "millimetres": 1.0, "cm": 10.0, "centimeter": 10.0,
    "centimetre": 10.0, "centimeters": 10.0, "centimetres": 10.0, "m": 1000.0, "meter": 1000.0, "metre": 1000.0,
    "meters": 1000.0, "metres": 1000.0,
}  # fmt: skip
_COLOR_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm")
_DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff", ".pgm")
# Other cameras' names for the keys above, in lower case without punctuation.
_ALIASES = {
    "color": ("color", "colour", "rgb", "image", "colorfile", "rgbfile", "colorpath", "rgbpath", "colorimage", "rgbimage"),
    "depth": ("depth", "depthfile", "depthpath", "depthimage", "depthmap"),
    "fx": ("fx", "flx", "focalx", "focallengthx"),
    "fy": ("fy", "fly", "focaly", "focallengthy"),
    "cx": ("cx", "ppx", "principalx", "principalpointx"),
    "cy": ("cy", "ppy", "principaly", "principalpointy"),
    "width": ("width", "w", "imagewidth"),
    "height": ("height", "h", "imageheight"),
    "matrix": ("intrinsicmatrix", "k", "cameramatrix", "intrinsicsmatrix", "cameraintrinsics", "camerak"),
    "intrinsics": ("intrinsics", "intrinsic", "depthintrinsics", "colorintrinsics"),
    "depth_unit": ("depthunit",),
    "depth_scale_mm": ("depthscalemm", "depthscaleinmm", "millimetersperunit", "mmperunit"),
    "invalid": ("invalid", "invalidvalue", "invaliddepth", "depthinvalid", "depthinvalidvalue", "nodata", "nodatavalue"),
    "distortion": ("coeffs", "distortion", "distcoeffs", "distortioncoefficients", "d", "k1", "k2", "k3", "p1", "p2"),
    "pixel_center": ("pixelcenter", "pixelcentre"),
    "unused": ("camfromworld", "worldfromcam"),  # a single scan is aligned anew; `read_pose` reads them for several
}  # fmt: skip
_MEANINGS = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
_SCALE = re.compile(
    r"(?:png|integer|raw|unit)?depth\w*(?:scale|factor|units?|shift|divisor|multiplier)\w*|scale|factor|scalefactor"
    r"|unitspermet(?:er|re)|met(?:er|re)sperunit"
)
_NUMBER = re.compile(r"[-+]?\d{1,18}\.?\d{0,18}([eE][-+]?\d{1,2})?")
_METRES_BELOW, _PER_METRE_ABOVE = 0.01, 50.0
_FULL_SCALES = (1023, 2047, 4095, 8191, 16383, 32767, 65535)
_FULL_SCALE_SHARE = 0.01


def find_frame_json(folder: Path) -> Path | None:
    """Find the JSON file that describes an RGB-D folder, or None."""
    for name in CAMERA_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.glob("*.json") if not p.name.startswith(".") and p.is_file())
    return found[0] if len(found) == 1 else None


def read_frame(source: Source, *, images: Mapping[str, str] | None = None) -> Rgbd:
    """Read the frame that a JSON file describes; its images lie in the same folder.

    Args:
        source: the JSON file.
        images: names of the ``color`` and ``depth`` images, in place of those that the file gives.

    Raises:
        ScanError: a key is missing or wrong, or an image is missing, damaged, too large or of another size.
    """
    path = source.path
    layout = _Layout(_json_object(source.file.read(_MAX_JSON_BYTES + 1), path.name), source)
    layout.values |= {meaning: (meaning, name) for meaning, name in (images or {}).items()}
    color_path = _image(source, layout, "color", ("color", "rgb", "colour"), _COLOR_SUFFIXES)
    depth_path = _image(source, layout, "depth", ("depth",), _DEPTH_SUFFIXES)
    depth = _read_depth(depth_path, source)
    height, width = depth.shape
    intrinsics, camera_size = _intrinsics(source, layout, default_size=(width, height))
    scale = _depth_scale_mm(source, layout, is_float=depth.dtype.kind == "f")
    invalid = _invalid_values(source, layout, depth)
    layout.name_unused()
    if camera_size != (width, height):
        _check_aspect(path, "the intrinsics", camera_size, (width, height))
        intrinsics = np.diag([width / camera_size[0], height / camera_size[1], 1.0]) @ intrinsics
    rgb = read_color(color_path, color_path.name, (width, height), source)
    return framed(rgb, depth, scale, intrinsics, invalid)


def read_pose(path: Path) -> Float[np.ndarray, "4 4"] | None:
    """Rigid camera-from-world pose of a frame's JSON file in mm, OpenCV axes; None if it gives none.

    Raises:
        ScanError: ``cam_from_world`` or ``world_from_cam`` is no rigid transform of four rows of four numbers.
    """
    with open_regular(path) as file:
        values = _json_object(file.read(_MAX_JSON_BYTES + 1), path.name)
    for key, value in values.items():
        plain = re.sub(r"[^a-z0-9]", "", key.lower())
        if plain in ("camfromworld", "worldfromcam"):
            pose = _rigid(value)
            if pose is None:
                raise ScanError(
                    f"{path.name}: expected {key!r} as a rigid transform, four rows of four numbers in mm; correct it or leave "
                    "it out"
                )
            return pose if plain == "camfromworld" else np.linalg.inv(pose)
    return None


def _rigid(value: Any) -> Float[np.ndarray, "4 4"] | None:
    try:
        pose = np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or not np.allclose(pose[3], [0, 0, 0, 1]):
        return None
    rotation = pose[:3, :3]
    return pose if np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) and np.linalg.det(rotation) > 0 else None


def framed(
    rgb: Float[np.ndarray, "h w 3"],
    depth: np.ndarray,
    scale_mm: float,
    intrinsics: Float[np.ndarray, "3 3"],
    invalid: list[float],
) -> Rgbd:
    """Assemble a frame, and mask invalid depths.

    Args:
        rgb: colours in [0, 1].
        depth: z-depth in units of ``scale_mm``.
        scale_mm: millimetres per unit.
        intrinsics: camera matrix in pixels of the depth image, pixel centres at integer + 0.5.
        invalid: values of ``depth`` that mean "no depth".
    """
    height, width = depth.shape
    depth_mm = depth.astype(np.float64) * scale_mm
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(depth_mm) & (depth_mm > 0.0)
    for value in invalid:
        mask &= depth != value
    camera = Camera(intrinsics=intrinsics, cam_from_world=np.eye(4), width=width, height=height)
    depth_mm[~mask] = 0.0
    return Rgbd(rgb=rgb, depth_mm=depth_mm, mask=mask, camera=camera)


def read_color(
    image: Path | bytes, name: str, size: tuple[int, int], source: Source
) -> Float[np.ndarray, "height width 3"]:
    """Read a frame's colour image, upright and resampled to the depth's size (width, height).

    Raises:
        ScanError: the image cannot be read, or its aspect differs from the depth's.
    """
    opened = open_image(image, name)
    stored, turn = opened.size, orientation(opened)
    turned = (stored[1], stored[0]) if turn >= 5 else stored
    upright = turn != 1
    if upright and not _same_aspect(turned, size) and _same_aspect(stored, size):
        source.note(
            f"{name} has EXIF orientation {turn}, which is not applied: only the stored image has the depth's shape"
        )
        upright, turned = False, stored
    elif upright:
        source.note(f"{name} is turned upright by its EXIF orientation {turn}")
    _check_aspect(source.path, name, turned, size)
    if turned != size:
        source.note(f"colour resampled from {turned[0]} × {turned[1]} to the depth's {size[0]} × {size[1]}")
    del opened
    pixels = read_pixels(
        image, name, max_size=max(stored), claim=lambda n: source.claim("pixels", n), note=source.note, upright=upright,
        resize=size if turned != size else None,
    )  # fmt: skip
    return unit(pixels)


class _Layout:
    """A frame's JSON values by their meaning, whatever their names."""

    def __init__(self, values: dict[str, Any], source: Source) -> None:
        self.source = source
        self.values: dict[str, tuple[str, Any]] = {}  # meaning → (key as written, value)
        self.scales: dict[str, Any] = {}
        self.unused: list[str] = []
        self.distorted = False
        self._take(values, deep=True)

    def _take(self, values: dict[str, Any], *, deep: bool) -> None:
        for key, value in values.items():
            plain = re.sub(r"[^a-z0-9]", "", key.lower())
            meaning = _MEANINGS.get(plain)
            if meaning == "intrinsics" and deep:
                self._take_intrinsics(value)
            elif meaning == "depth_unit" or (plain == "depthunits" and isinstance(value, str)):
                self.values["depth_unit"] = key, value
            elif meaning == "distortion":
                self.distorted |= any(v not in (0, None) for v in (value if isinstance(value, list) else [value]))
            elif meaning is not None and meaning != "intrinsics":
                self.values.setdefault(meaning, (key, value))
            elif _SCALE.fullmatch(plain):
                self.scales[key] = value
            else:
                self.unused.append(key)

    def _take_intrinsics(self, value: Any) -> None:
        name = self.source.path.name
        if isinstance(value, str):
            value = _json_object(self.source.read_beside(value, _MAX_JSON_BYTES), shown(value))
        if isinstance(value, list):
            value = {"matrix": value}
            self.values.setdefault("matrix", ("intrinsics", value["matrix"]))
            return
        if not isinstance(value, dict):
            raise ScanError(f"{name}: expected 'intrinsics' to be an object or a file name")
        self._take(value, deep=False)

    def number(self, meaning: str, *, required: bool = True) -> float | None:
        key, value = self.values.get(meaning, (meaning, None))
        if value is not None:
            return checked_number(self.source, key, value)
        if required:
            raise ScanError(
                f"{self.source.path.name}: expected the key {meaning!r}, found none; add the camera's intrinsics"
            )
        return None

    def name_unused(self) -> None:
        if self.distorted:
            self.source.note("the lens's distortion is not undone: depth and colour are taken as of a pinhole camera")
        if self.unused:
            self.source.note(f"keys not used: {', '.join(self.unused)[:200]}")


def checked_number(source: Source, key: str, value: object) -> float:
    """Return a value of the file as a number.

    Raises:
        ScanError: the value is no number, or absurdly large.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e9:
        raise ScanError(f"{source.path.name}: expected {key!r} to be a number, got {str(value)[:40]!r}; correct it")
    return float(value)


def _json_object(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > _MAX_JSON_BYTES:
        raise ScanError(f"{name}: expected a JSON file under {_MAX_JSON_BYTES:,} bytes, got a larger one")
    try:
        layout = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{name}: expected JSON, got a syntax error ({str(error)[:80]}); correct it") from None
    if not isinstance(layout, dict):
        raise ScanError(f"{name}: expected a JSON object with intrinsics, got a {type(layout).__name__}")
    return layout


def _image(source: Source, layout: _Layout, meaning: str, stems: tuple[str, ...], suffixes: tuple[str, ...]) -> Path:
    key, name = layout.values.get(meaning, (meaning, None))
    if name is not None and not isinstance(name, str):
        raise ScanError(f"{source.path.name}: expected {key!r} to be a file name, got {str(name)[:40]!r}")
    why = "is not in the same folder"
    names = [name] if name is not None else [f"{stem}{suffix}" for stem in stems for suffix in suffixes]
    for wanted in names:
        found, why = source.beside(wanted)
        if found is not None:
            source.pay(found.stat().st_size)
            return found
    if name is None and len(found_alone := _starting_with(source, stems, suffixes)) == 1:
        source.note(f"{found_alone[0].name} is taken as the {meaning} image")
        source.pay(found_alone[0].stat().st_size)
        return found_alone[0]
    told = shown(name) if name is not None else " or ".join(f"{stem}.*" for stem in stems)
    raise ScanError(f"{source.path.name}: the {meaning} image {told} {why}; put it there, or name it in the JSON")


def _starting_with(source: Source, stems: tuple[str, ...], suffixes: tuple[str, ...]) -> list[Path]:
    """Images beside the frame whose names begin with a stem, such as ``color_000.png``."""
    names = [entry.name for entry, _ in zip(os.scandir(source.path.parent), range(_MAX_ENTRIES), strict=False)]
    alike = [n for n in names if n.lower().startswith(stems) and n.lower().endswith(suffixes)]
    return [found for found in (source.beside(n)[0] for n in sorted(alike)) if found is not None]


def _intrinsics(
    source: Source, layout: _Layout, *, default_size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], tuple[int, int]]:
    path = source.path
    if "matrix" in layout.values:
        key, matrix = layout.values["matrix"]
        for name, value in zip(("fx", "fy", "cx", "cy"), camera_matrix(source, key, matrix), strict=True):
            layout.values[name] = name, value
    fx, fy, cx, cy = (layout.number(name) or 0.0 for name in ("fx", "fy", "cx", "cy"))
    width = layout.number("width", required=False) or default_size[0]
    height = layout.number("height", required=False) or default_size[1]
    if fx <= 0.0 or fy <= 0.0 or width < 1 or height < 1:
        raise ScanError(
            f"{path.name}: expected fx, fy, width and height over 0, got {fx:g}, {fy:g}, {width:g}, {height:g}"
        )
    center = layout.number("pixel_center", required=False)
    if center is None:
        center = 0.0 if layout.values["cx"][0].lower() == "ppx" else 0.5
    shift = 0.5 - center
    intrinsics = np.array([[fx, 0.0, cx + shift], [0.0, fy, cy + shift], [0.0, 0.0, 1.0]])
    return intrinsics, (int(width), int(height))


def camera_matrix(source: Source, key: str, matrix: Any) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy of a matrix stored by rows or by columns; the non-zero principal point tells which.

    Raises:
        ScanError: the matrix does not have nine numbers.
    """
    if isinstance(matrix, dict):
        matrix = matrix.get("data")
    flat = [v for row in matrix for v in (row if isinstance(row, list) else [row])] if isinstance(matrix, list) else []
    if len(flat) != 9:
        raise ScanError(f"{source.path.name}: expected {key!r} as 9 numbers, got {len(flat)}; give fx, fy, cx and cy")
    m = [checked_number(source, key, v) for v in flat]
    cx, cy = (m[2], m[5]) if m[2] or m[5] else (m[6], m[7])
    return m[0], m[4], cx, cy


def _depth_scale_mm(source: Source, layout: _Layout, *, is_float: bool) -> float:
    name = source.path.name
    scale = layout.number("depth_scale_mm", required=False)
    if scale is not None:
        if scale <= 0.0:
            raise ScanError(f"{name}: expected 'depth_scale_mm' over 0, got {scale:g}")
        layout.unused += layout.scales
        return scale
    if "depth_unit" in layout.values:
        key, unit_name = layout.values["depth_unit"]
        known = _UNITS_MM.get(str(unit_name).strip().lower())
        if known is None:
            raise ScanError(
                f'{name}: expected {key!r} as "mm", "cm" or "m", got {str(unit_name)[:40]!r}; or give depth_scale_mm'
            )
        layout.unused += layout.scales
        return known
    if layout.scales:
        key, value = next(iter(layout.scales.items()))
        layout.unused += list(layout.scales)[1:]
        return _told_scale(source, key, checked_number(source, key, value), is_float=is_float)
    if is_float:
        raise ScanError(
            f'{name}: expected \'depth_unit\' as "mm", "cm" or "m" (or \'depth_scale_mm\') for float depth; add it'
        )
    return 1.0


def _told_scale(source: Source, key: str, value: float, *, is_float: bool) -> float:
    """Millimetres per depth unit, from a scale whose definition depends on the camera."""
    if value <= 0.0:
        raise ScanError(f"{source.path.name}: expected {key!r} over 0, got {value:g}; or give depth_scale_mm")
    if value < _METRES_BELOW or re.search(r"met(er|re)s?_?per_?unit|_m$", key.lower()) or (is_float and value == 1.0):
        source.note(f"{key} {value:g} is read as metres per unit; depth_scale_mm would say {value * 1000:g}")
        return value * 1000.0
    if value > _PER_METRE_ABOVE:
        source.note(f"{key} {value:g} is read as units per metre; depth_scale_mm would say {1000 / value:g}")
        return 1000.0 / value
    if is_float:
        raise ScanError(
            f"{source.path.name}: {key} {value:g} may mean several things for float depth; give depth_scale_mm"
        )
    source.note(f"{key} {value:g} is read as millimetres per unit; depth_scale_mm would say so")
    return value


def _invalid_values(source: Source, layout: _Layout, depth: np.ndarray) -> list[float]:
    """Values that mark missing depth, beside those that can never be a depth."""
    key, given = layout.values.get("invalid", ("invalid", []))
    given = given if isinstance(given, list) else [given]
    values = [checked_number(source, key, v) for v in given[:16] if v is not None and not _is_nan(v)]
    if depth.dtype.kind != "f" and depth.size:
        largest = int(depth.max())
        if largest in _FULL_SCALES and largest not in values:
            share = float((depth == largest).mean())
            if share > _FULL_SCALE_SHARE:
                source.note(f"depth {largest}, which {share:.0%} of the pixels have, is taken as no depth")
                values.append(float(largest))
    return values


def _is_nan(value: object) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and value.lower() == "nan")


def _read_depth(path: Path, source: Source) -> np.ndarray:
    """Read a depth image in the file's own unit and type."""
    try:
        if path.suffix.lower() == ".npy":
            with open_regular(path) as file:
                depth = read_array(file, path.stat().st_size, "depth", path)
        elif path.suffix.lower() == ".npz":
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                names = [n.removesuffix(".npy") for n in archive.namelist()]
                depth = read_member(archive, "depth" if "depth" in names or len(names) != 1 else names[0], source)
        else:
            image = open_image(path, path.name)
            _check_pixels(path, image.width * image.height)
            if not (image.mode.startswith("I") or image.mode == "F"):
                raise ScanError(
                    f"{path.name}: expected 16-bit or float depth, got an 8-bit image ({image.mode}); "
                    "save the depth as a 16-bit PNG, a float TIFF or .npy"
                )
            depth = decode(image, path.name)
    except DAMAGED as error:
        why = " ".join(str(error).split())[:80]
        raise ScanError(f"{path.name}: the depth cannot be read ({why}); save it again") from None
    _check_pixels(path, depth.size)
    depth = np.squeeze(depth)
    if depth.ndim != 2 or depth.dtype.kind not in "iuf":
        raise ScanError(f"{path.name}: expected depth of shape (height, width), got {depth.shape} of {depth.dtype}")
    return depth


def _check_pixels(path: Path, count: int) -> None:
    if count > MAX_FRAME_PIXELS:
        raise ScanError(
            f"{path.name}: expected depth of at most {MAX_FRAME_PIXELS:,} pixels, got {count:,}; make it smaller"
        )


def _same_aspect(size: tuple[int, int], depth: tuple[int, int]) -> bool:
    return abs(size[0] * depth[1] - size[1] * depth[0]) <= 0.01 * size[0] * depth[1]


def _check_aspect(path: Path, what: str, size: tuple[int, int], depth: tuple[int, int]) -> None:
    if not _same_aspect(size, depth):
        raise ScanError(
            f"{path.name}: expected {what} to match the depth's {depth[0]} × {depth[1]}, got {size[0]} × {size[1]}; "
            "register colour and depth to one view"
        )
