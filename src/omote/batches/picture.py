"""A thumbnail of an avatar: the source as the networks saw it, the avatar at rest, and one expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from omote.asset.glb_read import read_avatar
from omote.files import atomic_path
from omote.formats.frame_write import as_bytes
from omote.geometry.camera import orbit_camera
from omote.pipelines.sheet import render_glb
from omote.types import Rgbd

SIZE_PX = 128
FIELD_MM = 270.0
SHOWN = ("happy", "surprised", "angry")  # the first of these that the avatar has
QUALITY = 85


def write_picture(path: Path, glb: Path, source: Rgbd, expressions: Mapping[str, Rgbd]) -> None:
    """Write the thumbnail of an avatar as JPEG.

    Args:
        path: path of the JPEG.
        glb: path of the avatar.
        source: front view of the scan.
        expressions: the avatar's expressions by name.

    Raises:
        OutputError: it cannot be written.
    """
    avatar = read_avatar(glb)
    named = [name for name in (*SHOWN, *expressions) if name in expressions and name in avatar.target_names]
    camera = orbit_camera(size=SIZE_PX, field_mm=FIELD_MM)
    poses: list[dict[str, float]] = [{}, *({name: 1.0} for name in named[:1])]
    cells = [Image.fromarray(as_bytes(source.rgb)).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)]
    cells += [Image.fromarray(as_bytes(render_glb(avatar, avatar.weights(**pose), camera))) for pose in poses]
    strip = Image.fromarray(np.concatenate([np.asarray(cell) for cell in cells], axis=1))
    with atomic_path(path) as temporary:
        strip.save(temporary, "JPEG", quality=QUALITY)
