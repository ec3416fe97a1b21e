"""`Rgbd` → an RGB-D folder that `omote` reads back, and pictures of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from omote.errors import OutputError
from omote.files import all_or_nothing, make_folder
from omote.types import Rgbd

# 16 bits of this unit reach 6.5 m, and it is a twentieth of a good depth camera's noise at arm's length.
DEPTH_UNIT_MM = 0.1


def save_rgbd(image: Rgbd, folder: Path) -> None:
    """Write color.png, depth.png (16 bits of 0.1 mm, 0 where invalid), intrinsics.json and picture.png.

    Args:
        image: RGB-D image of any size; depths beyond 6.55 m are left out.
        folder: output folder, created if missing.

    Raises:
        OutputError: a file cannot be written; then none is.
    """
    make_folder(folder)
    units = np.where(image.mask, image.depth_mm, 0.0).astype(np.float64) / DEPTH_UNIT_MM
    depth = np.where(units <= 65535, np.round(units), 0).astype(np.uint16)
    if image.mask.any() and not depth.any():
        raise OutputError(f"cannot write {folder}: expected depth below 6.55 m, got more; check the scan's unit")
    camera = image.camera
    layout = {
        "color": "color.png",
        "depth": "depth.png",
        "depth_scale_mm": DEPTH_UNIT_MM,
        "pixel_center": 0.5,
        "intrinsics": {
            "width": camera.width,
            "height": camera.height,
            "fx": float(camera.intrinsics[0, 0]),
            "fy": float(camera.intrinsics[1, 1]),
            "cx": float(camera.intrinsics[0, 2]),
            "cy": float(camera.intrinsics[1, 2]),
        },
        "cam_from_world": camera.cam_from_world.tolist(),
    }
    names = [folder / name for name in ("color.png", "depth.png", "picture.png", "intrinsics.json")]
    with all_or_nothing(*names) as temporary:
        color, depth_file, picture, intrinsics = (temporary[name] for name in names)
        Image.fromarray(as_bytes(image.rgb)).save(color, format="PNG")
        Image.fromarray(depth).save(depth_file, format="PNG")
        Image.fromarray(as_bytes(side_by_side(image.rgb, depth_greys(image)))).save(picture, format="PNG")
        intrinsics.write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")


def depth_greys(image: Rgbd) -> Float[np.ndarray, "height width 3"]:
    """Draw depth in greys: near is light, holes are dark blue; the range is the central 98 % of the valid depths."""
    out = np.broadcast_to(np.array([0.08, 0.09, 0.2]), (*image.mask.shape, 3)).copy()
    if image.mask.any():
        near, far = np.percentile(image.depth_mm[image.mask], [1, 99])
        # The root gives most of the greys to near surfaces: to the face, not to the shoulders.
        shade = 1.0 - 0.85 * np.sqrt(np.clip((image.depth_mm - near) / max(far - near, 1e-6), 0, 1))
        out[image.mask] = shade[image.mask, None]
    return out


def side_by_side(*pictures: Float[np.ndarray, "height _ 3"]) -> Float[np.ndarray, "height _ 3"]:
    """Join pictures of one height, left to right."""
    return np.concatenate(pictures, axis=1)


def as_bytes(picture: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in [0, 1] → bytes, 0 to 255."""
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
