"""Holes in depth images (pixels with colour but without depth), closed from the surface around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.interpolate import NearestNDInterpolator, RBFInterpolator

from omote.types import Rgbd

# Radius of the largest hole that is closed: an eye with its lids. Closing a larger one would invent too much surface.
MAX_RADIUS_MM = 20.0
# A hole whose rim spans more depth than this is a gap between two surfaces.
MAX_RIM_DEPTH_MM = 40.0
# Depth cameras lose pixels along outlines: bays up to this width belong to the surface that they cut into.
BAY_MM = 20.0
# Invalid pixels between surfaces farther apart than the depth of a head are the nearer one's shadow.
MAX_STEP_MM = 250.0
RIM_PX = 3
# Of the eight pixels around a pinhole, at least so many are valid, and within this depth.
PINHOLE_RIM, PINHOLE_MM = 5, 6.0
# Width of the band along an outline in which a lens mixes colours.
MIXED_PX = 2
# Smoothing of the spline against about a millimetre of sensor noise on the rim.
SMOOTHING = 1.0
# Number of rim pixels, the nearest ones, that a pixel's spline is fitted to.
NEIGHBOURS = 32


def closed(image: Rgbd, holes: Bool[np.ndarray, "h w"] | None = None) -> Rgbd:
    """Close small holes in depth by local thin-plate splines through their rims; colours stay.

    A colour camera sees an eye or glossy skin where structured light and time of flight find no depth.

    Args:
        image: RGB-D image whose ``rgb`` has colour in the holes too.
        holes: mask of the pixels to close; `holes_of` the image if None. Splines over a whole room take seconds.

    Returns:
        The image with closed holes, or the same object if there is nothing to close.

    Source: Duchon, "Splines minimizing rotation-invariant semi-norms in Sobolev spaces" (1977), the spline.
    """
    wanted = holes_of(image) if holes is None else holes
    if not wanted.any():
        return image
    rim = ndimage.binary_dilation(wanted, np.ones((3, 3)), iterations=RIM_PX) & image.mask
    points, values = np.argwhere(rim).astype(np.float64), image.depth_mm[rim].astype(np.float64)
    at = np.argwhere(wanted).astype(np.float64)
    depth = image.depth_mm.astype(np.float32)
    try:
        spline = RBFInterpolator(
            points, values, kernel="thin_plate_spline", smoothing=SMOOTHING, neighbors=min(NEIGHBOURS, len(points))
        )
        depth[wanted] = spline(at)
    except (np.linalg.LinAlgError, ValueError):
        # A thin-plate spline needs three points that are not collinear.
        depth[wanted] = NearestNDInterpolator(points, values)(at)
    return replace(image, depth_mm=depth, mask=image.mask | wanted)


def without_pinholes(image: Rgbd) -> Rgbd:
    """Close holes of a pixel or two by the mean of the pixels around them, where those lie on one surface."""
    depth, mask = image.depth_mm.astype(np.float64), image.mask.copy()
    for _ in range(2):
        count = ndimage.uniform_filter(mask.astype(np.float64), 3, mode="constant") * 9
        total = ndimage.uniform_filter(np.where(mask, depth, 0.0), 3, mode="constant") * 9
        nearest = ndimage.minimum_filter(np.where(mask, depth, np.inf), 3)
        farthest = ndimage.maximum_filter(np.where(mask, depth, -np.inf), 3)
        found = ~mask & (count > PINHOLE_RIM - 0.5) & (farthest - nearest < PINHOLE_MM)
        depth[found] = total[found] / count[found]
        mask |= found
    return replace(image, depth_mm=np.where(mask, depth, 0.0).astype(image.depth_mm.dtype), mask=mask)


def with_colors_in_holes(image: Rgbd, holes: Bool[np.ndarray, "h w"] | None = None) -> Rgbd:
    """Replace the background colour in a rendered image's holes by the nearest surface colour; depth stays.

    Args:
        image: RGB-D image with colour inside its mask.
        holes: mask of the holes; `holes_of` the image if None.
    """
    wanted = holes_of(image) if holes is None else holes
    if not wanted.any():
        return image
    _, (rows, columns) = ndimage.distance_transform_edt(~image.mask, return_indices=True)
    rgb = image.rgb.copy()
    rgb[wanted] = image.rgb[rows[wanted], columns[wanted]]
    return replace(image, rgb=rgb)


def with_colors_from_inside(image: Rgbd, holes: Bool[np.ndarray, "h w"]) -> Rgbd:
    """Replace colours along the outline, and in its bays, by the nearest colour from further inside; depth stays.

    A pixel on an outline mixes in background, and a bay that `closed` fills may show background alone, which must not become the
    colour of skin. Enclosed holes keep their colours: an eye does not have the colour of its lids.

    Args:
        image: captured image with open holes.
        holes: mask of the holes, `holes_of` the image.
    """
    outside = ~(image.mask | holes)
    rim = ndimage.binary_dilation(outside, np.ones((3, 3)), iterations=MIXED_PX)
    wanted = ~outside & (rim | ~ndimage.binary_fill_holes(image.mask))
    inside = image.mask & ~wanted
    if not wanted.any() or not inside.any():
        return image
    _, (rows, columns) = ndimage.distance_transform_edt(~inside, return_indices=True)
    rgb = image.rgb.copy()
    rgb[wanted] = image.rgb[rows[wanted], columns[wanted]]
    return replace(image, rgb=rgb)


def holes_of(image: Rgbd, *, radius_mm: float = MAX_RADIUS_MM) -> Bool[np.ndarray, "h w"]:
    """Mask of pixels without depth that belong to the surface around them.

    These are holes enclosed by the surface, and bays in ragged outlines up to the mask's morphological closing. Holes larger
    than ``radius_mm`` and gaps between two surfaces don't count.
    """
    if not image.mask.any():
        return np.zeros_like(image.mask)
    pitch_mm = float(np.median(image.depth_mm[image.mask])) / float(image.camera.intrinsics[0, 0])
    found: Bool[np.ndarray, "h w"] = ~image.mask & ndimage.binary_fill_holes(
        _bays_closed(image.mask, BAY_MM / pitch_mm / 2)
    )
    found &= _step_mm(image.depth_mm, image.mask, int(BAY_MM / pitch_mm) + 1) <= MAX_STEP_MM
    labels, _ = ndimage.label(found, structure=np.ones((3, 3)))
    enclosed = ndimage.binary_fill_holes(image.mask)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(slice(max(s.start - RIM_PX, 0), s.stop + RIM_PX) for s in box)
        hole = labels[around] == label
        whole = bool(enclosed[around][hole].all())
        if _is_gap(image.depth_mm[around], image.mask[around], hole, pitch_mm, radius_mm, whole):
            found[around] &= ~hole
    return found


def small_holes(image: Rgbd, radius_mm: float) -> Bool[np.ndarray, "h w"]:
    """Mask of the holes that one surface encloses, of at most a radius in mm: no bays of outlines, and no gaps."""
    return holes_of(image, radius_mm=radius_mm) & ndimage.binary_fill_holes(image.mask)


def _bays_closed(mask: Bool[np.ndarray, "h w"], radius_px: float) -> Bool[np.ndarray, "h w"]:
    """Morphological closing by a disc, computed from distances so that the image's border has no effect."""
    near = ndimage.distance_transform_edt(~np.pad(mask, int(radius_px) + 1)) <= radius_px
    inner = ndimage.distance_transform_edt(near) > radius_px
    cut = slice(int(radius_px) + 1, -int(radius_px) - 1)
    found: Bool[np.ndarray, "h w"] = inner[cut, cut] | mask
    return found


def _step_mm(
    depth_mm: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], width_px: int
) -> Float[np.ndarray, "h w"]:
    """Range of the valid depths around each pixel; -inf where there are none."""
    far = ndimage.maximum_filter(np.where(mask, depth_mm, -np.inf), 2 * width_px + 1)
    near = ndimage.minimum_filter(np.where(mask, depth_mm, np.inf), 2 * width_px + 1)
    step: Float[np.ndarray, "h w"] = far - near
    return step


def _is_gap(
    depth_mm: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    hole: Bool[np.ndarray, "h w"],
    pitch_mm: float,
    radius_mm: float,
    enclosed: bool,
) -> bool:
    """Whether a hole is too large to close, or leads to another surface."""
    if ndimage.distance_transform_edt(np.pad(hole, 1)).max() * pitch_mm > radius_mm:
        return True
    rim = ndimage.binary_dilation(hole, np.ones((3, 3))) & mask
    # Without a rim it is the middle of a step.
    return not rim.any() or (enclosed and bool(np.ptp(depth_mm[rim]) > MAX_RIM_DEPTH_MM))
