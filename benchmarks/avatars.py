"""Anatomical plausibility of avatars of real scans: teeth at rest, folded skin, crossing lips, movement of the mouth's corners.

    make bench BENCH=avatars OUT=dir

Avatars of the scans in ``shared/data/scans`` and of the demo's person; unseen persons are measured by `omote evaluate avatars`.
Everything is measured on the GLB's own meshes (`omote.evaluation.anatomy`): at rest, in six expressions, in each ARKit unit alone
and in each pair of expressions at .7. Where a scan's mouth is open, its teeth are no fault and are left out. ``mouthClose``
closes lips under an open jaw: alone it must cross, so its crossings are left out too. A folder OMOTE_SHARED is used instead of
``shared`` beside the repository, OMOTE_AVATARS keeps the GLBs and a sheet of each with close-ups of mouth and eyes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from omote.api.scans import load_head
from omote.asset.glb_read import GlbAvatar, read_avatar
from omote.asset.primitives import MM_PER_M
from omote.datasets.demo_frame import sensed_frame
from omote.evaluation.anatomy import measure_anatomy, welded
from omote.formats.read import read
from omote.geometry.camera import FRONT_TARGET_MM, orbit_camera
from omote.head.expressions import CATEGORIES, expressions_of
from omote.head.model import HeadModel
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.pipelines.sheet import render_glb
from omote.progress import finish
from omote.rgbd.backends.thread import EditingThread
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.runs import Stopwatch
from omote.types import Scan

VIEW_PX = 200
# (middle, width) in mm, and the rows of pixels that are kept: the head, the mouth, the eyes.
VIEWS = (
    (tuple(FRONT_TARGET_MM), 250.0, slice(None)),
    ((0.0, -62.0, 30.0), 110.0, slice(30, 170)),
    ((0.0, 0.0, 10.0), 110.0, slice(30, 170)),
)


def scans(shared: Path, head: HeadModel) -> Iterator[tuple[str, str, Scan]]:
    """(group, name, scan) of everything that is measured."""
    for path in sorted((shared / "data/scans").glob("*.obj")):
        yield "scans", path.stem, read(path)
    yield "demo", "demo", sensed_frame(0, head)


def anatomy_of(avatar: GlbAvatar) -> dict[str, float]:
    """`measure_anatomy` of a file's meshes."""
    moving = [p for p in avatar.primitives if len(p.targets)]
    parts = {p.name: (p.positions * MM_PER_M, p.triangles, p.targets * MM_PER_M) for p in moving}
    return measure_anatomy(welded(parts, avatar.target_names))


def sheet(avatar: GlbAvatar) -> Image.Image:
    """Rest and expressions from the front and from 35°: the head, the mouth and the eyes."""
    rows = []
    for middle, width, cut in VIEWS:
        for yaw in (0.0, 35.0):
            camera = orbit_camera(size=VIEW_PX, yaw_rad=np.deg2rad(yaw), field_mm=width, target_mm=np.array(middle))
            images = [
                render_glb(avatar, avatar.weights(**({c: 1.0} if c in avatar.target_names else {})), camera)[cut]
                for c in CATEGORIES
            ]
            rows.append(np.concatenate(images, axis=1))
    return Image.fromarray((np.clip(np.concatenate(rows), 0, 1) * 255 + 0.5).astype(np.uint8))


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    shared = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    head = load_head(None)
    pipeline = RgbdPipeline(EditingThread(lambda: head, SHIPPED_WEIGHTS), head)
    result: dict[str, float | int | str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("OMOTE_AVATARS") or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for group, name, scan in scans(shared, head):
            watch, path = Stopwatch(), folder / f"{name}.glb"
            made = finish(pipeline(scan, expressions_of(("all",)), AvatarSettings(), watch=watch), None)
            made.save(path)
            avatar = read_avatar(path)
            measured = anatomy_of(avatar)
            sheet(avatar).save(folder / f"{name}.png")
            for key, value in worst(measured, mouth_open=made.facts["align/mouth"] == "open").items():
                result[f"avatars/{group}/{key}"] = max(float(result.get(f"avatars/{group}/{key}", 0.0)), value)
            fit = float(made.facts["fit/median_mm"] or 0.0)
            result[f"avatars/fit_median_mm/{name}"] = fit
            print(
                f"{name}: fit {fit:.4f} mm, {made.facts['align/mouth']}, {worst(measured, mouth_open=False)}",
                flush=True,
            )
    return result


def worst(measured: dict[str, float], *, mouth_open: bool) -> dict[str, float]:
    """The largest value of each kind of pose."""
    out = {"teeth_rest_mm2": 0.0 if mouth_open else measured["rest/teeth_mm2"]}
    for key, value in measured.items():
        kind, _, rest = key.partition("/")
        what, _, pose = rest.partition("/")
        if kind in ("expression", "unit", "pair") and not (what == "lips_crossing" and pose == "mouthClose"):
            out[f"{kind}/{what}"] = max(out.get(f"{kind}/{what}", 0.0), value)
    return out
