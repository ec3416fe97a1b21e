"""A picture of the whole result: source and expressions as colour, depth, and the final mesh from the GLB itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from omote.asset.glb_read import GlbAvatar, GlbPrimitive, read_avatar
from omote.asset.primitives import MM_PER_M
from omote.files import atomic_path
from omote.formats.frame_write import as_bytes
from omote.geometry.camera import orbit_camera
from omote.lift.points import sample_image
from omote.rendering.pictures import DEPTH_RANGE_MM, depth_colors, turbo
from omote.rendering.rgbd import interpolate
from omote.rendering.shade import camera_center, to_linear, to_srgb
from omote.rendering.zbuffer import rasterize
from omote.types import Camera, Rgbd

CELL = 200
LABEL = 18
VIEWS_DEG = (0.0, 35.0, -35.0)
SIGMA_RANGE_MM = (0.0, 4.0)
BACKGROUND = np.array([0.53, 0.55, 0.58])
GREY = 0.75
KEY_LIGHT = np.array([0.35, 0.45, 0.82])
FILL_LIGHT = np.array([-0.6, 0.1, 0.8])


def write_sheet(
    path: Path | str, glb: Path | str | bytes, *, source: Rgbd | None, generated: Mapping[str, Rgbd]
) -> None:
    """Write the sheet as PNG: a column per image, with rows for colour, depth, and the mesh from three sides.

    A last row shows the standard deviation of the head at rest from the same sides, if the file states it.

    Args:
        path: file name; written atomically.
        glb: exported avatar.
        source: input as the network received it.
        generated: image that each morph target was registered to, by name.
    """
    picture = draw_sheet(read_avatar(glb), source=source, generated=generated)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG")


def draw_sheet(
    avatar: GlbAvatar, *, source: Rgbd | None, generated: Mapping[str, Rgbd], cell: int = CELL
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of `write_sheet`."""
    columns: list[tuple[str, Rgbd | None, dict[str, float]]] = [("source", source, {})]
    # A target that moves nothing, as neutral, isn't in the file.
    columns += [(name, rgbd, {name: 1.0} if name in avatar.target_names else {}) for name, rgbd in generated.items()]
    titles = ["colour", "depth", *(f"mesh {v:+.0f}°" if v else "mesh" for v in VIEWS_DEG)]
    uncertain = any(p.sigma_mm is not None for p in avatar.primitives)
    titles += ["deviation"] if uncertain else []
    margin = 70
    sheet = Image.new("RGB", (margin + cell * len(columns), LABEL + cell * len(titles) + 26), (30, 31, 34))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for row, title in enumerate(titles):
        draw.text((6, LABEL + cell * row + cell // 2), title, (230, 230, 230), font)
    for k, (name, rgbd, weights) in enumerate(columns):
        x = margin + cell * k
        # The built-in font has Latin letters only.
        draw.text((x + 4, 1), name if name.isascii() else f"text {k}", (255, 255, 255), font)
        cells: list[np.ndarray | None] = [None, None] if rgbd is None else [rgbd.rgb, depth_colors(rgbd)]
        cells += [render_glb(avatar, avatar.weights(**weights), _camera(v, cell)) for v in VIEWS_DEG]
        for row, image in enumerate(cells):
            if image is not None:
                tile = Image.fromarray(as_bytes(image)).resize((cell, cell), Image.Resampling.BICUBIC)
                sheet.paste(tile, (x, LABEL + cell * row))
    if uncertain:
        for k, (angle, _) in enumerate(zip(VIEWS_DEG, columns, strict=False)):
            tile = Image.fromarray(as_bytes(deviation_picture(avatar, _camera(angle, cell))))
            sheet.paste(tile, (margin + cell * k, LABEL + cell * (len(titles) - 1)))
    _scale_bar(sheet, draw, font, margin, cell, len(titles), uncertain=uncertain)
    return np.asarray(sheet)


def _camera(yaw_deg: float, size: int) -> Camera:
    return orbit_camera(size=size, yaw_rad=np.deg2rad(yaw_deg), field_mm=270.0)


def _scale_bar(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, x: int,
    cell: int, rows: int, *, uncertain: bool,
) -> None:  # fmt: skip
    y, width = LABEL + cell * rows + 5, 2 * cell
    bar = np.broadcast_to(turbo(np.linspace(0, 1, width))[None], (10, width, 3))
    sheet.paste(Image.fromarray(as_bytes(bar)), (x, y))
    low, high = DEPTH_RANGE_MM
    text = f"depth {low:+.0f} to {high:+.0f} mm from the eyes"
    if uncertain:
        text += f"; standard deviation {SIGMA_RANGE_MM[1]:.0f} to {SIGMA_RANGE_MM[0]:.0f} mm"
    draw.text((x + width + 6, y - 3), text, (230, 230, 230), font)
    draw.text((6, y - 3), "near", (230, 230, 230), font)


def deviation_picture(avatar: GlbAvatar, camera: Camera) -> Float[np.ndarray, "height width 3"]:
    """The standard deviation of the head at rest as colours, parts without one grey; sRGB [0, 1].

    Args:
        avatar: avatar whose skin states it.
        camera: camera of the picture.
    """
    nearest = np.full((camera.height, camera.width), np.inf)
    picture = np.broadcast_to(BACKGROUND, (*nearest.shape, 3)).copy()
    low, high = SIGMA_RANGE_MM
    for p in avatar.primitives:
        points = np.ascontiguousarray(p.positions * MM_PER_M, np.float32)
        raster = rasterize(camera, points, p.triangles)
        hit = (raster.face_id >= 0) & (raster.depth_mm < nearest)
        nearest[hit] = raster.depth_mm[hit]
        if p.sigma_mm is None:
            picture[hit] = GREY
            continue
        sigma = interpolate(raster.face_id, raster.barycentric, p.triangles, p.sigma_mm[:, None])[hit, 0]
        # Red, the left end of the scale, is what to trust least.
        picture[hit] = turbo(1 - np.clip((sigma - low) / (high - low), 0, 1))
    return picture


def render_glb(
    avatar: GlbAvatar, weights: Float[np.ndarray, "k"], camera: Camera, *, supersample: int = 2
) -> Float[np.ndarray, "height width 3"]:
    """Draw a read-back GLB at morph weights with two soft lights; sRGB [0, 1]."""
    height, width = camera.height * supersample, camera.width * supersample
    nearest = np.full((height, width), np.inf)
    linear = np.broadcast_to(to_linear(BACKGROUND), (height, width, 3)).copy()
    eye_mm = camera_center(camera.cam_from_world)
    for p in avatar.primitives:
        positions, normals = p.posed(weights)
        points = np.ascontiguousarray(positions * MM_PER_M, np.float32)
        raster = rasterize(camera, points, p.triangles, supersample=supersample)
        hit = (raster.face_id >= 0) & (raster.depth_mm < nearest)
        nearest[hit] = raster.depth_mm[hit]
        uv = np.zeros((len(points), 2)) if p.uv is None else p.uv
        layers = np.concatenate([points, normals, uv, p.shade], axis=1).astype(np.float32)
        values = interpolate(raster.face_id, raster.barycentric, p.triangles, layers)[hit].astype(np.float64)
        linear[hit] = _shade(p, values, eye_mm)
    linear = linear.reshape(camera.height, supersample, camera.width, supersample, 3).mean(axis=(1, 3))
    return to_srgb(linear)


def _shade(
    p: GlbPrimitive, values: Float[np.ndarray, "n 11"], eye_mm: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n 3"]:
    point, normal, uv, shade = values[:, :3], values[:, 3:6], values[:, 6:8], values[:, 8:11]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    albedo = np.broadcast_to(p.color, point.shape)
    if p.texture is not None:
        size = np.array([p.texture.shape[1], p.texture.shape[0]])
        albedo = albedo * to_linear(sample_image(p.texture, uv * size))
    view = eye_mm - point
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    out = 0.38 * albedo
    for light, strength in ((KEY_LIGHT, 0.72), (FILL_LIGHT, 0.25)):
        direction = light / np.linalg.norm(light)
        out = out + strength * albedo * np.clip((normal @ direction)[:, None] + 0.15, 0, None) / 1.15
        half = view + direction
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        power = 2.0 / max(p.roughness**4, 1e-3) - 2.0
        gloss = np.clip(np.einsum("nc,nc->n", normal, half), 0, 1) ** min(power, 300.0)
        out = out + 0.25 * strength * (1 - p.roughness) * gloss[:, None]
    return out * shade
