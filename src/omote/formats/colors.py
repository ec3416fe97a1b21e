"""Colours of any file type and range → float32 in [0, 1]; colours per face or corner → per vertex."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

# Full scales of 8, 10, 12 and 16 bits: a wider type often holds fewer bits than it could.
_SCALES = (255, 1023, 4095, 65535)


def unit_colors(
    values: np.ndarray, note: Callable[[str], None] = lambda _: None, *, by_type: bool = False
) -> Float[np.ndarray, "n 3"]:
    """Colours of any file type → float32 in [0, 1].

    The range is found as follows, since a file's type often says little about it:

    - Bytes span 0 to 255, signed bytes too (some writers declare bytes as signed).
    - Wider integers, and floats above 1, span 0 to the smallest of 255, 1023, 4095 and 65535 that holds all values.
    - Floats of which less than 1 % exceed 1, or none exceeds 4, are clipped to 1.
    - Floats of which 1 % or more lie between -1 and 0 span -1 to 1, the range of networks.

    NaNs become 0.

    Args:
        values: colours in rows of three columns; a further column is alpha and ignored, fewer columns are grey.
        note: function that receives a sentence on anything suspicious.
        by_type: divide integers by their type's largest value, for formats that specify it.
    """
    values = values.reshape(len(values), -1)
    values = values[:, :3] if values.shape[1] >= 3 else np.repeat(values[:, :1], 3, axis=1)

    if values.dtype.kind == "b":
        return values.astype(np.float32)
    if values.dtype.itemsize == 1 and values.dtype.kind in "iu":
        return values.view(np.uint8).astype(np.float32) / np.float32(255.0)
    if by_type and values.dtype.kind == "u":
        return (values / np.iinfo(values.dtype).max).astype(np.float32)
    if values.dtype == np.int16 and values.size and values.min() < 0:
        values = values.view(np.uint16)

    if values.dtype.kind == "f":
        finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        above = float((finite > 1.0 + 1e-3).mean()) if finite.size else 0.0
        if above == 0.0 and finite.size and finite.min() >= -1.001 and (finite < 0.0).mean() >= 0.01:
            note("colour values from -1 to 1 are taken as black to white")
            return np.clip((finite + 1.0) / 2.0, 0.0, 1.0)
        if above < 0.01 or finite.max() <= 4.0:  # highlights brighter than white, not bytes
            if above > 0.0:
                note(f"{above:.1%} of the colour values exceed 1: clipped")
            values, largest = finite, 1.0
        else:
            values, largest = finite, float(finite.max()) * (1 - 1e-3)
    else:
        largest = float(values.max()) if values.size else 0.0

    if values.size and values.min() < 0:
        note("some colour values are negative: clipped to 0")

    if values.dtype.kind == "f" and largest <= 1.0:
        scale = 1.0
    else:
        wider = [s for s in _SCALES if s >= largest]
        scale = (
            float(wider[0]) if wider else float(np.iinfo(values.dtype).max if values.dtype.kind in "iu" else largest)
        )
        if scale != 255 and not (scale == 65535 and values.dtype.kind in "iu" and values.dtype.itemsize == 2):
            note(f"colour values up to {largest:,.0f} are taken as 0 to {scale:,.0f}")
    return np.clip(values.astype(np.float32) / np.float32(scale), 0.0, 1.0)


def packed_colors(packed: np.ndarray) -> Float[np.ndarray, "n 3"]:
    """0xRRGGBB or 0xAARRGGBB → [0, 1]."""
    packed = packed.astype(np.int64)
    return np.stack([(packed >> shift) & 0xFF for shift in (16, 8, 0)], axis=1).astype(np.float32) / np.float32(255.0)


def corners_to_vertices(
    num_points: int, corners: Int[np.ndarray, "f k"], colors: Float[np.ndarray, "f _ 3"]
) -> Float[np.ndarray, "n 3"]:
    """Mean colour of the corners at each vertex; NaN where no corner has a colour.

    Args:
        num_points: number of the mesh's vertices.
        corners: vertex ids of each face's corners.
        colors: colours per face (f, 1, 3) or per corner (f, k, 3); NaN where unknown.
    """
    ids = corners.reshape(-1)
    out = np.empty((num_points, 3), np.float32)
    known = ~np.isnan(np.broadcast_to(colors[..., 0], corners.shape).reshape(-1))
    count = np.bincount(ids[known], minlength=num_points)
    for k in range(3):
        values = np.broadcast_to(colors[..., k], corners.shape).reshape(-1)[known]
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, k] = np.bincount(ids[known], values, minlength=num_points) / count
    return out


def srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear light, the encoding of glTF's factors and vertex colours, as sRGB."""
    linear = np.clip(np.nan_to_num(linear), 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
