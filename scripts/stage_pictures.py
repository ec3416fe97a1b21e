"""The pictures of docs/how-it-works.md, of the person of `omote demo`: one for each stage from the scan to the avatar.

    python scripts/stage_pictures.py --out docs/stages

Writes scan.jpg, head.jpg, align.jpg, source.jpg, motion.jpg, noise.jpg, generated.jpg, mesh.jpg and sheet.jpg, each at most
150 kB.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw

import omote
from omote.align.align import Alignment, align
from omote.datasets.demo_frame import sensed_frame
from omote.diffusion.flow import initial_noise, noised
from omote.formats.frame_write import as_bytes
from omote.geometry.camera import orbit_camera, project
from omote.head.expressions import arkit_weights
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarResult
from omote.pipelines.rgbd import rest_face
from omote.pipelines.sheet import draw_sheet
from omote.rendering.pictures import depth_colors, turbo
from omote.rendering.rgbd import render_head
from omote.rendering.scans import render_mesh, render_points
from omote.rgbd.conditions.motion import Motion
from omote.rgbd.load import load_model
from omote.rgbd.model import EditingModel
from omote.rgbd.warp import DEPTH_UNIT_MM
from omote.types import Mesh, Rgbd

CELL = 200
MOST_BYTES = 150_000
SHOWN = "happy"  # the expression whose motion and noise are shown
MOST_MOVED_MM = 8.0
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
DEVIATIONS = (-2.5, 0.0, 2.5)

Picture = Float[np.ndarray, "height width 3"]


def tiled(rows: Sequence[Sequence[Picture]], cell: int = CELL, resample: int = Image.Resampling.BICUBIC) -> Image.Image:
    """Pictures in rows of cells."""
    page = Image.new("RGB", (cell * max(map(len, rows)), cell * len(rows)), (30, 31, 34))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(
                Image.fromarray(as_bytes(np.clip(picture, 0, 1))).resize((cell, cell), resample), (x * cell, y * cell)
            )
    return page


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG of the best quality that keeps to the size."""
    for quality in range(92, 30, -4):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {buffer.tell():,} bytes")


def head_picture(head: HeadModel) -> Image.Image:
    """The 3DMM: its first identities, and three units."""
    camera = orbit_camera(size=CELL)
    bent = []
    for component in range(2):
        for deviation in DEVIATIONS:
            identity = np.zeros(head.num_identity, np.float32)
            identity[component] = deviation
            bent.append(render_head(head, head.vertices(identity=identity), camera).rgb)
    units = [{}, {"jawOpen": 1.0}, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}, {"browInnerUp": 1.0},
             {"eyeBlinkLeft": 1.0}, {"mouthPucker": 1.0}]  # fmt: skip
    moved = [render_head(head, head.vertices(expression=arkit_weights(unit)), camera).rgb for unit in units]
    return tiled([bent, moved])


def aligned_picture(head: HeadModel, alignment: Alignment) -> Image.Image:
    """The aligned scan, its 68 landmarks on it, and the fitted head."""
    camera, scan = orbit_camera(size=2 * CELL), alignment.scan
    seen = render_mesh(scan, camera) if isinstance(scan, Mesh) else render_points(scan, camera)
    clay = render_mesh(Mesh(vertices=alignment.vertices_mm, faces=head.faces), camera)
    marked = Image.fromarray(as_bytes(seen.rgb))
    draw = ImageDraw.Draw(marked)
    for u, v, _ in project(camera, alignment.landmarks_mm):
        draw.ellipse((u - 3, v - 3, u + 3, v + 3), fill=(255, 230, 0), outline=(0, 0, 0))
    return tiled([[seen.rgb, np.asarray(marked) / 255.0, clay.rgb]], 2 * CELL)


def motion_picture(result: AvatarResult, motion: Motion) -> Image.Image:
    """How far the wanted weights move each pixel's depth, beside the source."""
    farther_mm = motion.image[0, 2].numpy() * DEPTH_UNIT_MM
    return tiled([[result.source.rgb, turbo(np.clip(0.5 + farther_mm / (2 * MOST_MOVED_MM), 0, 1))]], 2 * CELL)


@torch.no_grad()
def noise_picture(model: EditingModel, result: AvatarResult, face: RestFace, number: int) -> Image.Image:
    """Latents of a generated image under more and more noise, and what the decoder makes of each."""
    expression, source = result.expressions[number], result.source
    z_source = model.encode([source])
    spread = model.autoencoder.delta_std
    difference = (model.encode([result.generated[expression.name]]) - z_source) / spread
    noise = initial_noise(tuple(difference.shape[1:]), [0])
    latents, colors = [], []
    for t in TIMES:
        z = noised(difference, noise, torch.tensor([t]))
        latents.append(np.clip(z[0, :3].permute(1, 2, 0).numpy() / 4 + 0.5, 0, 1))
        decoded = model.decode(z_source + z * spread, [source], [expression], face=face)
        colors.append(decoded[0].rgb)
    page = tiled([latents, colors])
    page.paste(tiled([latents], resample=Image.Resampling.NEAREST), (0, 0))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    out, seed = parser.parse_args().out, parser.parse_args().seed
    out.mkdir(parents=True, exist_ok=True)
    head = shipped_head()
    frame: Rgbd = sensed_frame(seed, head)
    save(tiled([[frame.rgb, depth_colors(frame)]], 2 * CELL), out / "scan.jpg")
    save(head_picture(head), out / "head.jpg")
    alignment = align(frame, head=head)
    save(aligned_picture(head, alignment), out / "align.jpg")

    result = omote.avatar(frame, omote.AvatarSettings(seed=seed))
    names = [e.name for e in result.expressions]
    save(tiled([[result.source.rgb, depth_colors(result.source)]], 2 * CELL), out / "source.jpg")
    model, face = load_model(head), rest_face(alignment, head, result.source.camera)
    motion = Motion.of([result.expressions[names.index(SHOWN)]], face)
    assert motion is not None
    save(motion_picture(result, motion), out / "motion.jpg")
    save(noise_picture(model, result, face, names.index(SHOWN)), out / "noise.jpg")
    images = [result.generated[name] for name in names]
    save(tiled([[i.rgb for i in images], [depth_colors(i) for i in images]], 160), out / "generated.jpg")
    clay = []
    for yaw in (0.0, 0.6):
        camera = orbit_camera(size=CELL, yaw_rad=yaw)
        meshes = [result.mesh(name) for name in names]
        clay.append([render_mesh(Mesh(vertices=m.vertices, faces=m.faces), camera).rgb for m in meshes])
    save(tiled(clay, 160), out / "mesh.jpg")
    with tempfile.TemporaryDirectory() as folder:
        glb = Path(folder) / "avatar.glb"
        result.save(glb)
        from omote.asset.glb_read import read_avatar

        sheet = draw_sheet(read_avatar(glb), source=result.source, generated=result.generated, cell=140)
    save(Image.fromarray(sheet), out / "sheet.jpg")


if __name__ == "__main__":
    main()
