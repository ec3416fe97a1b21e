"""A depth camera: what structured-light and time-of-flight sensors do to a perfect RGB-D image.

Axial noise grows with the square of the distance and with the slant of the surface (Khoshelham & Elberink, "Accuracy and
Resolution of Kinect Depth Data", Sensors 2012, eq. 8; Nguyen et al., "Modeling Kinect Sensor Noise", 3DIMPVT 2012, eq. 1-2);
depth is quantised in disparity; pixels drop out at edges, at grazing angles and at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class SensorModel:
    """Strengths; the defaults are a near-perfect sensor.

    Attributes:
        axial_mm: standard deviation of depth noise at one metre, facing the camera.
        correlation_px: width of the noise's correlation.
        lateral_px: jitter across the image.
        disparity_step: quantisation of disparity, in 1/m (0 for none); at z metres a step is disparity_step · z² metres.
        edge_px: width of the band that drops out along depth edges.
        grazing_cos: pixels whose normal's cosine to the view is less drop out.
        dropout: share of pixels lost at random.
        flying: share of the outline's pixels whose depth and colour lie between the surface and what is behind it, where a pixel
            saw both.
        flying_mm: how far behind at most.
        color_noise: standard deviation on [0, 1] colours.
        exposure: factor on colour.
        white_balance: factors on red, green, blue.
        gamma: exponent on colour.
        blur_px: blur of the colour image.
    """

    axial_mm: float = 0.0
    correlation_px: float = 0.8
    lateral_px: float = 0.0
    disparity_step: float = 0.0
    edge_px: int = 0
    grazing_cos: float = 0.0
    dropout: float = 0.0
    flying: float = 0.0
    flying_mm: float = 60.0
    color_noise: float = 0.0
    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    blur_px: float = 0.0


def structured_light() -> SensorModel:
    """A projected pattern read by one camera, as the first Kinect.

    Source: Khoshelham and Elberink, "Accuracy and Resolution of Kinect Depth Data for Indoor Mapping Applications", Sensors 2012,
    eq. 8 and §3.2: at 1 m, depth deviates by 1.4 mm and is quantised in steps of 2.85 mm; outlines are lost in the pattern's
    shadow.
    """
    return SensorModel(axial_mm=1.4, disparity_step=0.00285, edge_px=2, grazing_cos=0.2, dropout=0.01, color_noise=0.01)


def time_of_flight() -> SensorModel:
    """Modulated light and its delay, as the second Kinect: smooth depth without steps, and flying pixels at outlines.

    Source: Sarbolandi, Lefloch and Kolb, "Kinect Range Sensing: Structured-Light versus Time-of-Flight Kinect", CVIU 2015:
    deviation of 1 to 2 mm at 1 m, more at grazing angles, and mixed pixels at depth edges. How many fly, and how far, is a guess.
    """
    return SensorModel(axial_mm=1.5, edge_px=1, grazing_cos=0.15, flying=0.5, color_noise=0.01)


def stereo() -> SensorModel:
    """Two infrared cameras with a projector, as the RealSense D415: errors that neighbours share.

    Source: Keselman et al., "Intel RealSense Stereoscopic Depth Cameras", CVPR Workshops 2017: z² · subpixel / (f · baseline)
    with .08 px, 1,004 px and 55 mm is 1.45 mm at 1 m, in steps of a 32nd of a pixel, over windows of several pixels.
    """
    return SensorModel(
        axial_mm=1.45, correlation_px=2.0, disparity_step=0.00057, edge_px=2, grazing_cos=0.25, dropout=0.005
    )


def draw_sensor(rng: np.random.Generator) -> SensorModel:
    """A random sensor, from a good short-range scanner to a consumer depth camera."""
    r, g, b = (float(x) for x in np.exp(rng.normal(0, 0.03, 3)))
    return SensorModel(
        axial_mm=float(rng.uniform(0.2, 1.6)),
        correlation_px=float(rng.uniform(0.6, 1.6)),
        lateral_px=float(rng.uniform(0, 0.4)),
        disparity_step=float(rng.choice([0.0, 0.0004, 0.001])),
        edge_px=int(rng.integers(1, 3)),
        grazing_cos=float(rng.uniform(0.1, 0.25)),
        dropout=float(rng.uniform(0, 0.01)),
        color_noise=float(rng.uniform(0, 0.015)),
        exposure=float(np.exp(rng.normal(0, 0.12))),
        white_balance=(r, g, b),
        gamma=float(np.exp(rng.normal(0, 0.06))),
        blur_px=float(rng.uniform(0, 0.7)),
    )


def view_cosine(image: Rgbd) -> Float[np.ndarray, "h w"]:
    """Cosine between the surface's normal and the line of sight, from depth differences; 1 where neighbours are missing."""
    z = np.where(image.mask, image.depth_mm, np.nan).astype(np.float64)
    fx, fy = image.camera.intrinsics[0, 0], image.camera.intrinsics[1, 1]
    # Slope of z per millimetre across the image plane at that depth.
    dx, dy = np.gradient(z, axis=1) * fx / z, np.gradient(z, axis=0) * fy / z
    return np.nan_to_num(1 / np.sqrt(1 + dx**2 + dy**2), nan=1.0)


def sense(image: Rgbd, sensor: SensorModel, rng: np.random.Generator) -> Rgbd:
    """A perfect image as the sensor would give it; a pure function of its arguments."""
    height, width = image.depth_mm.shape
    mask = image.mask.copy()
    depth = image.depth_mm.astype(np.float64)
    cosine = view_cosine(image)

    if sensor.lateral_px > 0:
        rows, columns = np.mgrid[:height, :width] + sensor.lateral_px * rng.standard_normal((2, height, width))
        index = [np.clip(np.round(a).astype(int), 0, n - 1) for a, n in ((rows, height), (columns, width))]
        moved, seen = depth[index[0], index[1]], mask[index[0], index[1]]
        depth = np.where(mask & seen, moved, depth)
    if sensor.axial_mm > 0:
        noise = ndimage.gaussian_filter(rng.standard_normal((height, width)), sensor.correlation_px)
        noise /= max(float(noise.std()), 1e-9)
        slant = 1 + 0.5 * (1 / np.clip(cosine, 0.2, 1) - 1)
        depth = depth + sensor.axial_mm * (depth / 1000) ** 2 * slant * noise
    if sensor.disparity_step > 0:
        disparity = np.round(1000 / np.maximum(depth, 1.0) / sensor.disparity_step) * sensor.disparity_step
        depth = 1000 / np.maximum(disparity, 1e-6)
    if sensor.edge_px > 0:
        far = np.where(mask, depth, depth[mask].max() + 1000 if mask.any() else 0.0)
        step = ndimage.maximum_filter(far, 3) - ndimage.minimum_filter(far, 3)
        edge = ndimage.binary_dilation(step > 15.0, iterations=sensor.edge_px)
        mask &= ~(edge & (rng.random((height, width)) < 0.75))

    rgb = image.rgb.astype(np.float64)
    mask &= cosine >= sensor.grazing_cos
    mask &= rng.random((height, width)) >= sensor.dropout
    if sensor.flying > 0:
        outline = mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)))
        mixed = outline & (rng.random((height, width)) < sensor.flying)
        depth = np.where(mixed, depth + rng.uniform(0, sensor.flying_mm, (height, width)), depth)
        # What it saw of both surfaces, it saw in colour too.
        rgb = np.where(mixed[..., None], ndimage.uniform_filter(rgb, (3, 3, 1)), rgb)

    if sensor.blur_px > 0:
        rgb = ndimage.gaussian_filter(rgb, (sensor.blur_px, sensor.blur_px, 0))
    rgb = sensor.exposure * np.array(sensor.white_balance) * np.clip(rgb, 1e-4, 1) ** sensor.gamma
    rgb = rgb + sensor.color_noise * rng.standard_normal(rgb.shape)

    return Rgbd(
        rgb=np.clip(rgb, 0, 1).astype(np.float32),
        depth_mm=np.where(mask, depth, 0.0).astype(np.float32),
        mask=mask,
        camera=image.camera,
    )
