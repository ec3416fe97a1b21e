"""Measurement of turns of one person, and pictures of them (`omote.studies.frames`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from omote.align.align import Alignment, align
from omote.align.turn import Turn, fuse_turn, posed_turn
from omote.asset.rest_shape import beyond_face, rest_shape
from omote.completion.aligned import AlignedCompletion
from omote.completion.names import shipped_completion
from omote.datasets.population import draw_person
from omote.datasets.turns import RenderedTurn, rendered_turn
from omote.errors import AlignmentError, ScanError
from omote.evaluation.completed import MOST_MM
from omote.evaluation.pictures import save_strips
from omote.evaluation.records import Row
from omote.evaluation.report import html
from omote.evaluation.turns import head_parts, pose_errors
from omote.files import make_folder
from omote.geometry.camera import orbit_camera, transform
from omote.geometry.cloud import closest_on_mesh, sample_surface
from omote.geometry.depth import depth_normals
from omote.head.model import PARTS
from omote.head.shipped import population_heads
from omote.progress import Step, Steps, finish
from omote.rendering.scans import render_mesh
from omote.rendering.sensor import stereo, structured_light, time_of_flight
from omote.studies.base import Record
from omote.studies.frames import AVATAR, POSES, SCAN, Frames, PoseSource
from omote.types import Mesh, Rgbd, Scan

SENSORS = {"structured_light": structured_light, "time_of_flight": time_of_flight, "stereo": stereo}
NUM_POINTS = {"ears": 2000, "profile": 1500, "face": 3000, "head": 5000}
POSE_DEG, POSE_MM = 2.0, 2.0
PICTURED = 6  # persons with a picture
SHOWN_YAW_DEG, SHOWN_PX = (-90, -45, 0, 45, 90), 240

Motion = Float[np.ndarray, "4 4"]


class Meter:
    """Head models and the avatars' completion, loaded once for all persons.

    Args:
        study: the study.
        out: result folder, for pictures.
    """

    def __init__(self, study: Frames, out: Path) -> None:
        self.study, self.out = study, out
        self.heads = population_heads(study.ict)
        self.head = self.heads[0]
        self.complete = AlignedCompletion("auto", self.head, shipped_completion())
        self.skin: Int[np.ndarray, "f 3"] = self.head.faces[self.head.face_part == PARTS.index("skin")].astype(np.int64)

    def person(self, name: str) -> Steps[Record]:
        """Errors of a person of the test split, by number of frames and where their poses are from."""
        index = int(name)
        person = draw_person(self.study.unseen(), index, self.heads)
        sensor = list(SENSORS)[index % len(SENSORS)]
        cases: dict[str, dict[str, dict[str, float]]] = {}
        shown: dict[Row, Mesh] = {}
        turns = {}
        for count in self.study.frames:
            # Middles of equal parts of the half circle.
            yaws = -90 + 180 * (np.arange(count) + 0.5) / count
            rng = np.random.default_rng([self.study.seed, index, count])
            turns[count] = rendered_turn(
                person, self.heads, yaws.tolist(), sensor=SENSORS[sensor](), rng=rng, size=self.study.size
            )
        # The truth is the rendered surface itself: in another topology, ears and skull would be off by millimetres.
        own, vertices = self.heads[person.head], turns[self.study.frames[0]].vertices_mm.astype(np.float64)
        faces = own.faces.astype(np.int64)
        points = {
            part: sample_surface(
                vertices, faces[inside[faces].all(axis=1)], NUM_POINTS[part], np.random.default_rng(index)
            )[0]
            for part, inside in head_parts(own).items()
        }
        for count, poses in self.study.items():
            yield Step(stage="persons", note=f"{name}, {count} frames, poses {poses}")
            case, meshes = self._case(turns[count], poses, points)
            cases[f"{count}_{poses}"] = case
            if poses == "found":
                shown |= {Row(kind).under(frames=count): mesh for kind, mesh in meshes.items()}
        if index < PICTURED:
            shown[Row("truth")] = Mesh(vertices=vertices, faces=faces)
            make_folder(self.out / "examples")
            save_strips(self.out / "examples" / f"{name}.png", {row: _views(mesh) for row, mesh in shown.items()})
        return {"head": self.heads[person.head].name, "sensor": sensor, "cases": cases}

    def _case(
        self, truth: RenderedTurn, poses: PoseSource, points: Mapping[str, Float[np.ndarray, "n 3"]]
    ) -> tuple[dict[str, dict[str, float]], dict[str, Mesh]]:
        """Metrics of poses, scan and avatar, and the surfaces moved back to the person's own frame."""
        out: dict[str, dict[str, float]] = {}
        shown: dict[str, Mesh] = {}
        try:
            scan, turn = self._scan(truth, poses)
        except (AlignmentError, ScanError):
            return out, shown
        errors = pose_errors(turn.canonical_from_camera, truth.cam_from_world)
        if len(truth.frames) > 1:
            good = (errors.degrees < POSE_DEG) & (errors.mm < POSE_MM)
            out[POSES] = {
                "turn/pose_deg": float(errors.degrees.mean()),
                "turn/pose_mm": float(errors.mm.mean()),
                "turn/pose_deg_worst": float(errors.degrees.max()),
                "turn/pose_mm_worst": float(errors.mm.max()),
                "turn/posed_within": float(good.sum() / len(truth.frames)),
            }
        motion = errors.canonical_from_world
        out[SCAN] = _surface_errors(scan, motion, points)
        shown[SCAN] = _back(scan, motion)
        try:
            # One frame goes to the avatar as it is; several are fused first, as in `omote avatar`.
            given: Scan = scan
            if len(truth.frames) == 1:
                ((name, given),) = truth.frames.items()
                motion = truth.cam_from_world[name]
            vertices, motion = self._avatar(given, motion)
        except (AlignmentError, ScanError):
            return out, shown
        made = Mesh(vertices=vertices, faces=self.skin)
        out[AVATAR] = _surface_errors(made, motion, points)
        shown[AVATAR] = _back(made, motion)
        return out, shown

    def _scan(self, truth: RenderedTurn, poses: PoseSource) -> tuple[Mesh, Turn]:
        if len(truth.frames) == 1:
            ((name, frame),) = truth.frames.items()
            pose = align(frame, head=self.head, refinement=False).canonical_from_scan
            turn = Turn(canonical_from_camera={name: pose}, left_out={}, source="found", mouth_mm=0.0, rest_mm=0.0)
            return fuse_turn(truth.frames, turn), turn
        if poses == "given":
            # As they are, unrefined: what fusion could do with perfect poses. The world is nearly the canonical frame.
            exact = {name: np.linalg.inv(pose) for name, pose in truth.cam_from_world.items()}
            turn = Turn(canonical_from_camera=exact, left_out={}, source="given", mouth_mm=0.0, rest_mm=0.0)
            return fuse_turn(truth.frames, turn), turn
        found = finish(posed_turn(truth.frames, self.head))
        return fuse_turn(truth.frames, found), found

    def _avatar(self, scan: Scan, scan_from_world: Motion) -> tuple[Float[np.ndarray, "v 3"], Motion]:
        """Vertices of the avatar at rest, and the motion of the person's own frame into theirs."""
        alignment: Alignment = align(scan, head=self.head)
        alignment, _ = self.complete(scan, alignment)
        vertices = rest_shape(self.head, alignment)
        if isinstance(alignment.scan, Mesh):
            vertices = vertices + beyond_face(self.head, alignment.scan, alignment.vertices_mm)
        return vertices.astype(np.float64), alignment.canonical_from_scan @ scan_from_world

    def page(self, out: Path) -> None:
        """Write ``report.html``: pictures of the first persons."""
        body = [
            "<h1>Several frames: examples</h1>",
            "<p>What was fused, the avatar's head at rest, and the true head, from five sides. Poses were found.</p>",
        ]
        for path in sorted((out / "examples").glob("*.png")):
            body += [f"<h2>Person {escape(path.stem)}</h2>", html.picture(path, path.stem)]
        html.write(out / "report.html", "omote: several frames", body)


def _surface_errors(mesh: Mesh, motion: Motion, points: Mapping[str, Float[np.ndarray, "n 3"]]) -> dict[str, float]:
    """Mean distance of each part's true points to a surface."""
    out = {}
    vertices, faces = mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)
    for part, true in points.items():
        distance, _, _ = closest_on_mesh(transform(motion, true), vertices, faces)
        out[f"turn/{part}_mm"] = float(np.minimum(distance, MOST_MM).mean())
    return out


def _back(mesh: Mesh, motion: Motion) -> Mesh:
    """A surface in the person's own frame, as the truth is; the motion may scale."""
    return replace(mesh, vertices=transform(np.linalg.inv(motion), mesh.vertices.astype(np.float64)))


def _views(mesh: Mesh) -> list[Rgbd]:
    """A surface in grey from several sides."""
    out = []
    for yaw in SHOWN_YAW_DEG:
        camera = orbit_camera(
            size=SHOWN_PX,
            yaw_rad=float(np.deg2rad(yaw)),
            distance_mm=900.0,
            field_mm=320.0,
            target_mm=np.array([0.0, -20.0, -60.0]),
        )
        image = render_mesh(replace(mesh, vertex_colors=None), camera)
        normals, seen = depth_normals(image.depth_mm[None], image.mask[None], camera.intrinsics[None])
        shade = np.clip(normals[0] @ np.array([-0.3, -0.5, -0.8]), 0.0, 1.0)
        grey = np.where(seen[0], 0.1 + 0.9 * shade, np.where(image.mask, 0.3, 1.0))
        out.append(replace(image, rgb=np.repeat(grey[..., None], 3, axis=2).astype(np.float32)))
    return out
