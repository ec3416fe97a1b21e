"""Restoration of a depth camera's image with the head that was fitted to it.

Structured light and time of flight lose depth at grazing angles, so that a face lacks its outline, its ears and half of its neck
although the colour camera saw them; a spline cannot extrapolate that far, but a fitted head can. Depth is also noisy. The
difference between the depths of the person and the fitted head is smoother than depth itself (which has a nose, for example),
and can be averaged over a wider neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from omote.geometry.camera import resize
from omote.geometry.holes import closed, holes_of
from omote.head.rest_face import RestFace
from omote.rendering.zbuffer import rasterize
from omote.types import Rgbd

# Share of holes and bays in the head above which an outline is not trusted. Renders have .004 at most, cameras .1.
RAGGED = 0.02
# Noise above which depth is smoothed. Renders of heads have .04 at most, simulated cameras at 0.7 m .04 to .6.
NOISY_MM = 0.06
# Farther from the fitted head than this lies another surface, such as hair.
MAX_DEPARTURE_MM = 15.0
# Widths of the bilateral filter. A depth camera's noise is correlated over some pixels, so that neighbours show a part of it.
SMOOTHED_PX, SMOOTHED_NOISES, REACH_PX = 2.5, 16.0, 6
# Noise above which what lies beyond the head is smoothed too; below it, hair has finer detail than that.
HEAVY_MM = 0.3
# A pixel far from the head is a spike of noise if it departs from its surroundings (a window's median) by no more than so many
# times the noise: slants multiply noise, and it is seen in part only.
MEDIAN_PX, SPIKE_NOISES = 5, 40.0
# Second difference along rows and columns: zero for a smooth surface.
SECOND_DIFFERENCES = np.outer((1, -2, 1), (1, -2, 1))


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Traces of a depth camera in an image.

    Attributes:
        holes: pixels without depth that belong to the surface around them (`omote.geometry.holes.holes_of`).
        ragged: whether the outline is unreliable because of many holes and bays.
        noise_mm: noise of depth (`depth_noise_mm`) in mm.
    """

    holes: Bool[np.ndarray, "h w"]
    ragged: bool
    noise_mm: float

    @property
    def need_a_head(self) -> bool:
        """Whether a fitted head is needed to undo them."""
        return self.ragged or self.noise_mm > NOISY_MM


def faults_of(image: Rgbd) -> Faults:
    """The faults of an image, measured once."""
    holes = holes_of(image)
    ragged = bool(holes.sum() > RAGGED * image.mask.sum())
    return Faults(holes=holes, ragged=ragged, noise_mm=depth_noise_mm(image))


def restored(image: Rgbd, faults: Faults, face: RestFace | None) -> Rgbd:
    """An image with its holes closed, a lost outline completed, and noise smoothed away.

    Args:
        image: source image; ``rgb`` holds the head's colour where depth was lost.
        faults: `faults_of` the image.
        face: head fitted to the image, in a camera with the same view; without one, holes are closed and no more.
    """
    whole = closed(image, faults.holes)
    if face is not None and faults.ragged:
        whole = completed(whole, face)
    if face is not None and faults.noise_mm > NOISY_MM:
        whole = smoothed(whole, face, faults.noise_mm)
    return whole


def depth_noise_mm(image: Rgbd) -> float:
    """Deviation of depth from a smooth surface between neighbouring pixels; 0 if no pixel has all of its neighbours.

    Noise that neighbours share is seen in part only: 1 mm, correlated over a pixel, gives some .2 mm.

    Source: the mask of Immerkær, "Fast Noise Variance Estimation" (1996), with a median, which is robust to edges.
    """
    known = ndimage.binary_erosion(image.mask, np.ones((3, 3)))
    if not known.any():
        return 0.0
    left = ndimage.convolve(image.depth_mm.astype(np.float64), SECOND_DIFFERENCES)[known]
    return float(np.median(np.abs(left)) / 0.6745 / np.sqrt((SECOND_DIFFERENCES**2).sum()))


def completed(image: Rgbd, face: RestFace) -> Rgbd:
    """An image with the fitted head's depth where its own is lost, offset to meet the nearest measured pixel.

    Args:
        image: source image without holes; ``rgb`` holds the head's colour where depth was lost.
        face: head fitted to the image, in a camera with the same view.

    Returns:
        The same image where the fitted head shows nothing more.
    """
    head_mm, _ = _head_depth_mm(image, face)
    lost, measured = (head_mm > 0) & ~image.mask, (head_mm > 0) & image.mask
    if not lost.any() or not measured.any():
        return image
    _, (rows, columns) = ndimage.distance_transform_edt(~measured, return_indices=True)
    departure = (image.depth_mm - head_mm)[rows[lost], columns[lost]]
    depth = image.depth_mm.copy()
    depth[lost] = head_mm[lost] + np.clip(departure, -MAX_DEPARTURE_MM, MAX_DEPARTURE_MM)
    return replace(image, depth_mm=depth, mask=image.mask | lost)


def smoothed(image: Rgbd, face: RestFace, noise_mm: float) -> Rgbd:
    """An image whose departure from the fitted head is smooth between steps, and what lies beyond it too if noise is heavy.

    If the head's own error is known, the departure is shrunk besides, by the share of it that noise explains.

    Args:
        image: source image without holes.
        face: head fitted to the image, in a camera with the same view.
        noise_mm: `depth_noise_mm` of the image.

    Source: Tomasi and Manduchi, "Bilateral Filtering for Gray and Color Images" (ICCV 1998).
    """
    head_mm, sigma_mm = _head_depth_mm(image, face)
    on_head = (head_mm > 0) & image.mask
    departure = np.where(on_head, image.depth_mm - head_mm, 0.0).astype(np.float64)
    if not on_head.any():
        return image
    # Hair is as far from the head as its neighbours are; a single pixel may be a spike.
    around = _median(departure, on_head)
    spike = (np.abs(departure) >= MAX_DEPARTURE_MM) & (np.abs(departure - around) < SPIKE_NOISES * noise_mm)
    typical = np.where(spike, around, departure)
    near = on_head & (np.abs(typical) < MAX_DEPARTURE_MM)
    smooth = _bilateral(departure, on_head, SMOOTHED_NOISES * noise_mm, around=typical)
    if sigma_mm is not None and near.any():
        smooth = np.where(near, smooth * _share_of_head(smooth, sigma_mm, near), smooth)
    found = np.where(on_head, head_mm + smooth, image.depth_mm)
    beyond = image.mask & ~on_head
    if noise_mm > HEAVY_MM and beyond.any():
        # There is nothing to depart from but the surroundings.
        found[beyond] = _bilateral(found, beyond, SMOOTHED_NOISES * noise_mm, around=found)[beyond]
    return replace(image, depth_mm=found.astype(np.float32))


def _median(values: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Median of the known values in a window of `MEDIAN_PX`; of the nearest known pixels where some are unknown."""
    if not known.any():
        return values
    rows, columns = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    out: Float[np.ndarray, "h w"] = ndimage.median_filter(values[rows, columns], MEDIAN_PX)
    return out


def _bilateral(
    values: Float[np.ndarray, "h w"],
    known: Bool[np.ndarray, "h w"],
    width: float,
    *,
    around: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """Means of known neighbours, weighted by nearness in the image and to the values ``around``."""
    height, breadth = values.shape
    given, seen = np.pad(np.where(known, values, 0.0), REACH_PX), np.pad(known, REACH_PX)
    total, weights = np.zeros_like(values), np.zeros_like(values)
    for row in range(2 * REACH_PX + 1):
        for column in range(2 * REACH_PX + 1):
            there = (slice(row, row + height), slice(column, column + breadth))
            distance = ((row - REACH_PX) ** 2 + (column - REACH_PX) ** 2) / SMOOTHED_PX**2
            weight = seen[there] * np.exp(-0.5 * (distance + ((given[there] - around) / width) ** 2))
            total += weight * given[there]
            weights += weight
    return np.divide(total, weights, out=values.copy(), where=weights > 0)


def _share_of_head(
    departure: Float[np.ndarray, "h w"], sigma_mm: Float[np.ndarray, "h w"], near: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Share of each pixel's departure that is the head's error, and not the noise that smoothing has left.

    The variances of both add up to that of the departure, and the head's is known: the linear estimate of least error
    (Wiener), with the noise's variance from the image itself.
    """
    scatter = float(np.median(np.abs(departure[near])) / 0.6745) ** 2
    noise = max(0.0, scatter - float(np.median(sigma_mm[near])) ** 2)
    return np.where(near, sigma_mm**2 / np.maximum(sigma_mm**2 + noise, 1e-9), 1.0)


def _head_depth_mm(image: Rgbd, face: RestFace) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"] | None]:
    """Depth of the fitted head at rest, 0 outside, and its standard deviation if it is known."""
    camera = resize(face.camera, width=image.camera.width, height=image.camera.height)
    vertices = np.ascontiguousarray(face.vertices_mm, np.float32)
    raster = rasterize(camera, vertices, face.head.faces, cull_back=True)
    if face.sigma_mm is None:
        return raster.depth_mm, None
    hit = raster.face_id >= 0
    sigma = np.zeros(hit.shape)
    sigma[hit] = np.einsum("nk,nk->n", face.sigma_mm[face.head.faces[raster.face_id[hit]]], raster.barycentric[hit])
    return raster.depth_mm, sigma
