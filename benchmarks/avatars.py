"""Do made avatars keep to anatomy? Teeth at rest, folded skin, crossing lips, travel of the mouth's corners, and recognition.

    make bench BENCH=avatars OUT=dir

Avatars of the scans in ``shared/data/scans``, of the demo's person and of 20 unseen persons, ten of each head family (those of
ICT-FaceKit if ``shared/data/ict_facekit.npz`` is there), given as meshes. Everything is measured on the GLB's own meshes
(`omote.evaluation.anatomy`): at rest, in six expressions, in each ARKit unit alone and in each pair of expressions at .7. The
judges see renders of the same file. Where a scan's mouth is open, its teeth are no fault and are left out. ``mouthClose`` is the
closing of lips under an open jaw: alone it must cross, so its crossings are left out too. A folder OMOTE_SHARED is used instead
of ``shared`` beside the repository, OMOTE_AVATARS keeps the GLBs and close-ups of mouth and eyes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from omote.api.scans import load_head
from omote.asset.glb_read import GlbAvatar, read_avatar
from omote.asset.primitives import MM_PER_M
from omote.datasets.demo_frame import sensed_frame
from omote.datasets.population import PopulationConfig, draw_person
from omote.evaluation.anatomy import measure_anatomy, welded
from omote.evaluation.judges.panel import load_expression_judges
from omote.formats.read import read
from omote.geometry.camera import orbit_camera, project
from omote.head.expressions import CATEGORIES, expressions_of
from omote.head.ict import ict_head
from omote.head.model import HeadModel
from omote.pipelines.result import AvatarResult
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.pipelines.sheet import render_glb
from omote.progress import finish
from omote.rendering.appearance import paint
from omote.rgbd.backends.thread import EditingThread
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.runs import Stopwatch
from omote.types import Mesh, Scan

PERSONS = 20
VIEW_PX = 256
CLOSE_PX = 300
# (middle, width) in mm of the close-ups.
CLOSE_UPS = {"mouth": ((0.0, -62.0, 30.0), 110.0), "eyes": ((0.0, 0.0, 10.0), 110.0)}


def scans(shared: Path, head: HeadModel) -> Iterator[tuple[str, str, Scan]]:
    """(group, name, scan) of everything that is measured."""
    for path in sorted((shared / "data/scans").glob("*.obj")):
        yield "scans", path.stem, read(path)
    yield "demo", "demo", sensed_frame(0, head)
    ict = shared / "data/ict_facekit.npz"
    config = PopulationConfig(split="test", num_images=1, ict=ict if ict.exists() else None)
    heads = [head, ict_head(ict)] if ict.exists() else [head]
    for index in range(PERSONS):
        person = draw_person(config, index, heads)
        own = heads[person.head]
        mesh = Mesh(
            vertices=own.vertices(person.identity).astype(np.float64),
            faces=own.faces.astype(np.int64),
            vertex_colors=np.clip(paint(own, person.appearance), 0, 1),
        )
        yield own.name, f"{own.name}_{index}", mesh


def anatomy_of(avatar: GlbAvatar) -> dict[str, float]:
    """`measure_anatomy` of a file's meshes."""
    parts = {p.name: (p.positions * MM_PER_M, p.triangles, p.targets * MM_PER_M) for p in avatar.primitives}
    return measure_anatomy(welded(parts, avatar.target_names))


def judged(avatar: GlbAvatar, result: AvatarResult) -> dict[str, str]:
    """What the two judges together see in each expression's render."""
    camera = orbit_camera(size=VIEW_PX)
    images = [render_glb(avatar, avatar.weights(**{c: 1.0}), camera, supersample=1) for c in CATEGORIES]
    landmarks = result.head.landmarks(result.avatar.neutral.vertices_mm.astype(np.float64))
    pixels = torch.from_numpy(project(camera, landmarks)[:, :2]).float()[None].repeat(len(images), 1, 1)
    rgb = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    verdict = load_expression_judges().probabilities(rgb, pixels).both.argmax(dim=1)
    return {c: CATEGORIES[int(v)] for c, v in zip(CATEGORIES, verdict, strict=True)}


def close_ups(avatar: GlbAvatar, what: str) -> Image.Image:
    """Rest and expressions, from the front and from 35°."""
    middle, width = CLOSE_UPS[what]
    rows = []
    for yaw in (0.0, 35.0):
        camera = orbit_camera(size=CLOSE_PX, yaw_rad=np.deg2rad(yaw), field_mm=width, target_mm=np.array(middle))
        rows.append(
            np.concatenate([render_glb(avatar, avatar.weights(**{c: 1.0}), camera) for c in CATEGORIES], axis=1)
        )
    return Image.fromarray((np.clip(np.concatenate(rows), 0, 1) * 255 + 0.5).astype(np.uint8))


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    shared = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    head = load_head(None)
    pipeline = RgbdPipeline(EditingThread(lambda: head, SHIPPED_WEIGHTS), head)
    result: dict[str, float | int | str] = {}
    right: dict[str, list[bool]] = {c: [] for c in CATEGORIES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("OMOTE_AVATARS") or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for group, name, scan in scans(shared, head):
            watch, path = Stopwatch(), folder / f"{name}.glb"
            made = finish(pipeline(scan, expressions_of(("all",)), AvatarSettings(), watch=watch), None)
            made.save(path)
            avatar = read_avatar(path)
            measured = anatomy_of(avatar)
            for what in CLOSE_UPS:
                close_ups(avatar, what).save(folder / f"{name}_{what}.png")
            for category, seen in judged(avatar, made).items():
                right[category].append(seen == category)
            for key, value in worst(measured, mouth_open=made.facts["align/mouth"] == "open").items():
                result[f"avatars/{group}/{key}"] = max(float(result.get(f"avatars/{group}/{key}", 0.0)), value)
            fit = float(made.facts["fit/median_mm"] or 0.0)
            result[f"avatars/fit_median_mm/{name}"] = fit
            print(
                f"{name}: fit {fit:.4f} mm, {made.facts['align/mouth']}, {worst(measured, mouth_open=False)}",
                flush=True,
            )
    for category, hits in right.items():
        result[f"avatars/recognised/{category}"] = float(np.mean(hits))
    result["avatars/recognised/macro"] = float(np.mean([np.mean(hits) for hits in right.values()]))
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
