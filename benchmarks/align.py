"""Alignment on population heads that no network saw, ten kinds of scans, and on scans without exactly one face.

    make bench BENCH=align OUT=dir        (or, with every row: python benchmarks/align.py --out dir [--count 500] [--others 200]
    [--kinds sparse])

The kinds: a head (every other one with its inside, as head models come), a bust, the points of one depth camera's view, a face
mask, half a head, the front of a head, a depth frame with a
wall behind the person, one with a wall, a table and a body, a whole body, and sparse points. All but the frames come in
random pose and unit. A head counts as aligned within 5 degrees and 3 mm. That is measured on the rigid part of the face: the
motion that takes the true landmarks of eyes and nose to the fitted ones. A head model's own frame cannot say it, for each
model's identities tilt and shift within their frame (ICT-FaceKit's by up to 5 degrees and 5 mm). Landmark errors are those of the
inner 51 in mm, as detected and on the fitted head. Writes `align.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from omote.align.align import MM_PER_UNIT, align
from omote.datasets.population import draw_identity
from omote.errors import OmoteError
from omote.geometry.camera import look_at, orbit_camera, rgbd_points, transform
from omote.geometry.mesh import vertex_normals
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.fit import eyeball_centers, umeyama
from omote.head.ict import ict_head
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.rendering.sensor import draw_sensor, sense
from omote.rendering.zbuffer import rasterize
from omote.types import Camera, Mesh, PointCloud, Rgbd, Scan

RIGID = slice(27, 48)  # of the 68 landmarks: nose and eyes
INNER = slice(17, 68)
SEED = 987_654_321  # training draws persons from seeds far below
Row = dict[str, float | int | str]


def person(head: HeadModel, rng: np.random.Generator, *, inside: bool = False) -> tuple[trimesh.Trimesh, np.ndarray]:
    """(mesh, landmarks) of a head as a scanner gets it: outer skin and eyes, canonical frame.

    With its inside, as the meshes of head models come: mouth, teeth and tongue, some of it near the skin.
    """
    arkit = draw_expression(str(rng.choice(CATEGORIES)) if rng.random() < 0.4 else "neutral", rng).arkit
    assert arkit is not None
    neutral = head.vertices(draw_identity(head, rng))
    origin = eyeball_centers(head, neutral).mean(axis=0)
    vertices = neutral.astype(np.float64) + np.tensordot(arkit, head.expression_mm, 1) - origin
    inner = np.zeros(head.num_vertices, bool)
    if not inside:
        inner[head.part_vertices("teeth_upper", "teeth_lower", "tongue", "mouth")] = True
    mesh = trimesh.Trimesh(vertices, head.faces[~inner[head.faces].all(axis=1)], process=False)
    return mesh, head.landmarks(vertices)


def bumpy(mesh: trimesh.Trimesh, rng: np.random.Generator, height: float) -> trimesh.Trimesh:
    v = np.array(mesh.vertices)
    for _ in range(4):
        k = rng.normal(0, 0.04, (3, 3))
        v += height / 4 * np.sin(v @ k + rng.uniform(0, 6.3, 3))
    return trimesh.Trimesh(v, mesh.faces, process=False)


def shoulders(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    torso = trimesh.creation.icosphere(4)
    torso.apply_scale([rng.uniform(170, 250), rng.uniform(60, 220), rng.uniform(85, 130)])
    torso.apply_translation([0, -165 - torso.extents[1] / 2 + 20, rng.uniform(-95, -65)])
    neck = trimesh.creation.cylinder(rng.uniform(50, 62), 140, sections=48)
    neck.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    neck.apply_translation([0, -160, -70])
    return [bumpy(torso, rng, 12.0), neck.subdivide().subdivide()]


def limbs(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    """Arms and legs of a standing person, canonical frame."""
    parts = []
    for side in (-1, 1):
        for x, y, length, radius in ((280, -330, 550, 45), (100, -1100, 650, 75)):
            part = trimesh.creation.capsule(length, radius)
            part.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
            part.apply_translation([side * x, y, -80 + rng.normal(0, 60)])
            parts.append(bumpy(part, rng, 10.0))
    belly = trimesh.creation.icosphere(4)
    belly.apply_scale([190, 300, 120])
    belly.apply_translation([0, -480, -80])
    return [*parts, bumpy(belly, rng, 12.0)]


def hair(mesh: trimesh.Trimesh, head: HeadModel, rng: np.random.Generator) -> trimesh.Trimesh:
    vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
    scalp = ~head_region(head).face & (vertices[:, 1] > rng.uniform(35, 60))
    scalp |= (vertices[:, 2] < -80) & (vertices[:, 1] > rng.uniform(-80, 10))
    grown = vertices + vertex_normals(vertices, head.faces) * rng.uniform(4, 30) * rng.uniform(
        0.7, 1.0, (len(vertices), 1)
    )
    return bumpy(trimesh.Trimesh(grown, faces[scalp[faces].all(axis=1)], process=False), rng, 8.0)


def plane(corner: np.ndarray, u: np.ndarray, v: np.ndarray, cells: int = 12) -> trimesh.Trimesh:
    a, b = np.meshgrid(np.linspace(0, 1, cells), np.linspace(0, 1, cells))
    points = corner + a.reshape(-1, 1) * u + b.reshape(-1, 1) * v
    i = np.arange(cells * (cells - 1)).reshape(cells - 1, cells)[:, :-1].ravel()
    return trimesh.Trimesh(
        points, np.concatenate([np.stack([i, i + 1, i + cells], 1), np.stack([i + 1, i + cells + 1, i + cells], 1)])
    )


def room(rng: np.random.Generator, *, table: bool) -> list[trimesh.Trimesh]:
    behind = -rng.uniform(150, 2200)
    parts = [
        plane(np.array([-3000.0, -2500, behind]), np.array([6000.0, 0, 0]), np.array([0, 5000.0, rng.normal(0, 300)]))
    ]
    if table:
        top, near = -rng.uniform(300, 420), rng.uniform(50, 350)
        parts.append(plane(np.array([-700.0, top, -250]), np.array([1400.0, 0, 0]), np.array([0, 0, 250.0 + near])))
        for _ in range(rng.integers(1, 4)):
            thing = trimesh.creation.box(rng.uniform(60, 300, 3))
            thing.apply_translation([rng.choice([-1, 1]) * rng.uniform(200, 600), top + 80, rng.uniform(-150, near)])
            parts.append(thing.subdivide().subdivide())
    return parts


def seen(camera: Camera, parts: list[trimesh.Trimesh], rng: np.random.Generator) -> Rgbd:
    """What a noisy depth camera gets."""
    whole = trimesh.util.concatenate(parts)
    raster = rasterize(camera, np.array(whole.vertices), np.array(whole.faces))
    mask = (raster.face_id >= 0) & (raster.depth_mm < 4000)
    depth = np.where(mask, raster.depth_mm, 0).astype(np.float32)
    clean = Rgbd(rgb=np.zeros((*mask.shape, 3), np.float32), depth_mm=depth, mask=mask, camera=camera)
    return sense(clean, draw_sensor(rng), rng)


def frame_camera(rng: np.random.Generator) -> Camera:
    """A common kind of depth camera, some distance in front of a person and not exactly aimed at the face."""
    width = int(rng.choice([320, 424, 512, 640]))
    yaw, pitch, distance = rng.normal(0, 0.25), rng.normal(0.05, 0.15), rng.uniform(450, 1000)
    eye = distance * np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    aim = rng.normal(0, [0.12 * distance, 0.09 * distance, 0])
    return Camera(
        intrinsics=np.array([[0.86 * width, 0, width / 2], [0, 0.86 * width, width * 3 / 8], [0, 0, 1]]),
        cam_from_world=look_at(eye_mm=eye, target_mm=aim, up=np.array([0.1 * rng.normal(), 1.0, 0])),
        width=width,
        height=width * 3 // 4,
    )


def close_camera(rng: np.random.Generator) -> Camera:
    return orbit_camera(
        size=int(rng.integers(160, 400)), yaw_rad=float(np.clip(rng.normal(0, 0.35), -0.7, 0.7)),
        pitch_rad=float(rng.normal(0, 0.2)), roll_rad=float(rng.normal(0, 0.2)),
        distance_mm=float(rng.uniform(450, 900)), field_mm=float(rng.uniform(280, 600)),
    )  # fmt: skip


def part_of(mesh: trimesh.Trimesh, keep: np.ndarray) -> trimesh.Trimesh:
    faces = np.array(mesh.faces)
    out = trimesh.Trimesh(np.array(mesh.vertices), faces[keep[faces].all(axis=1)], process=False)
    out.remove_unreferenced_vertices()
    return out


def ellipse(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    a, b = rng.uniform(60, 80), rng.uniform(78, 105)
    return (v[:, 0] / a) ** 2 + ((v[:, 1] + 35) / b) ** 2 + (np.minimum(v[:, 2] + 20, 0) / 60) ** 2 < 1


Scene = tuple[list[trimesh.Trimesh], Camera | None]


def kinds(head: HeadModel, rng: np.random.Generator, mesh: trimesh.Trimesh) -> dict[str, Callable[[], Scene]]:
    v = np.array(mesh.vertices)
    return {
        "head": lambda: ([mesh], None),
        "bust": lambda: ([mesh, hair(mesh, head, rng), *shoulders(rng)], None),
        "camera": lambda: ([mesh, hair(mesh, head, rng), *shoulders(rng)], close_camera(rng)),
        "mask": lambda: ([part_of(mesh, ellipse(v, rng))], None),
        "half": lambda: ([part_of(mesh, v[:, 0] * rng.choice([-1, 1]) > rng.uniform(-20, 0))], None),
        "front": lambda: ([part_of(mesh, v[:, 2] > rng.uniform(-80, -40))], None),
        "wall": lambda: ([mesh, hair(mesh, head, rng), *shoulders(rng), *room(rng, table=False)], frame_camera(rng)),
        "room": lambda: ([mesh, *shoulders(rng), *limbs(rng), *room(rng, table=True)], frame_camera(rng)),
        "body": lambda: ([mesh, hair(mesh, head, rng), *shoulders(rng), *limbs(rng)], None),
        "sparse": lambda: ([mesh, *(shoulders(rng) if rng.random() < 0.5 else [])], None),
    }


FRAMES = ("wall", "room")
KINDS = ("head", "bust", "camera", "mask", "half", "front", "wall", "room", "body", "sparse")


def posed(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """(scan_from_canonical, unit) of any pose."""
    unit = str(rng.choice(list(MM_PER_UNIT)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(rng=rng).as_matrix() / MM_PER_UNIT[unit]
    matrix[:3, 3] = rng.normal(0, 500, 3) / MM_PER_UNIT[unit]
    return matrix, unit


def make(index: int, heads: list[HeadModel]) -> tuple[Scan, np.ndarray, str, str]:
    """(scan, landmarks in the scan, unit, kind)."""
    rng = np.random.default_rng([SEED, index])
    kind = KINDS[index % len(KINDS)]
    head = heads[index // len(KINDS) % len(heads)]
    rounds = index // (len(KINDS) * len(heads))
    mesh, landmarks = person(head, rng, inside=kind == "head" and rounds % 2 == 1)
    parts, camera = kinds(head, rng, mesh)[kind]()
    if camera is not None:
        frame = seen(camera, parts, rng)
        if kind in FRAMES:
            frame = replace(frame, camera=replace(camera, cam_from_world=np.eye(4)))
            return frame, transform(camera.cam_from_world, landmarks), "mm", kind
        points = rgbd_points(frame)[0]
        matrix, unit = posed(points, rng)
        return PointCloud(points=transform(matrix, points)), transform(matrix, landmarks), unit, kind
    whole = trimesh.util.concatenate(parts)
    if kind == "sparse":
        points, _ = trimesh.sample.sample_surface(whole, int(rng.integers(2500, 6000)), seed=int(rng.integers(2**31)))
        matrix, unit = posed(points, rng)
        return PointCloud(points=transform(matrix, np.array(points))), transform(matrix, landmarks), unit, kind
    vertices = np.array(whole.vertices)
    vertices = vertices + rng.normal(0, np.exp(rng.uniform(np.log(0.05), np.log(0.6))), vertices.shape)
    matrix, unit = posed(vertices, rng)
    return (
        Mesh(vertices=transform(matrix, vertices), faces=np.array(whole.faces)),
        transform(matrix, landmarks),
        unit,
        kind,
    )


OTHERS = ("box", "ball", "blobs", "headless", "hand", "nose", "back", "ear", "empty_room", "two_heads")


def make_other(index: int, heads: list[HeadModel]) -> tuple[Scan, str]:
    """(scan, kind) without exactly one face."""
    rng = np.random.default_rng([SEED + 1, index])
    kind = OTHERS[index % len(OTHERS)]
    mesh, landmarks = person(heads[index // len(OTHERS) % len(heads)], rng)
    v = np.array(mesh.vertices)
    if kind == "empty_room":
        return seen(frame_camera(rng), [*limbs(rng)[:1], *room(rng, table=True)], rng), kind
    if kind == "box":
        box = trimesh.creation.box(rng.uniform(80, 300, 3))
        for _ in range(5):
            box = box.subdivide()
        parts = [box]
    elif kind == "ball":
        ball = trimesh.creation.icosphere(5)
        ball.apply_scale(rng.uniform(70, 140, 3))
        parts = [bumpy(ball, rng, rng.uniform(0, 6))]
    elif kind == "blobs":
        parts = []
        for _ in range(rng.integers(2, 7)):
            blob = trimesh.creation.icosphere(4)
            blob.apply_scale(rng.uniform(15, 90, 3))
            blob.apply_translation(rng.normal(0, 60, 3))
            parts.append(bumpy(blob, rng, 8.0))
    elif kind == "headless":
        parts = [*shoulders(rng), *limbs(rng)]
    elif kind == "hand":
        palm = trimesh.creation.icosphere(4)
        palm.apply_scale([45, 50, 15])
        parts = [palm]
        for x in (-36, -12, 12, 36):
            finger = trimesh.creation.capsule(70, 9)
            finger.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2 + rng.normal(0, 0.2), [1, 0, 0]))
            finger.apply_translation([x, 40, 0])
            parts.append(finger.subdivide())
    elif kind == "nose":
        parts = [part_of(mesh, np.linalg.norm(v - landmarks[30] + np.array([0, 0, 12]), axis=1) < rng.uniform(24, 36))]
    elif kind == "back":
        parts = [part_of(mesh, v[:, 2] < rng.uniform(-95, -70))]
    elif kind == "ear":
        side = v[:, 0] * rng.choice([-1, 1])
        parts = [part_of(mesh, (side > 45) & (v[:, 2] < -40))]
    else:
        other, _ = person(heads[rng.integers(len(heads))], rng)
        away = rng.normal(0, 1, 3) * np.array([1, 0.3, 0.5])
        other.apply_transform(trimesh.transformations.rotation_matrix(rng.normal(0, 0.5), [0, 1, 0]))
        other.apply_translation(away / np.linalg.norm(away) * rng.uniform(260, 1500))
        parts = [mesh, other]
    whole = trimesh.util.concatenate(parts)
    for _ in range(3):
        if len(whole.vertices) < 2000:
            whole = whole.subdivide()
    matrix, _ = posed(np.array(whole.vertices), rng)
    return Mesh(vertices=transform(matrix, np.array(whole.vertices)), faces=np.array(whole.faces)), kind


def judge(index: int, heads: list[HeadModel]) -> Row:
    """Align one and compare with the truth."""
    scan, landmarks, unit, kind = make(index, heads)
    row: Row = {"index": index, "kind": kind, "unit": unit}
    began = time.perf_counter()
    try:
        found = align(scan, head=heads[0], refinement=False)
        true, fitted = transform(found.canonical_from_scan, landmarks), found.landmarks_mm
        turn = umeyama(true[RIGID], fitted[RIGID], fixed_scale=1.0)[:3, :3]
        row |= {
            "angle_deg": float(np.rad2deg(Rotation.from_matrix(turn).magnitude())),
            "offset_mm": float(np.linalg.norm((fitted[RIGID] - true[RIGID]).mean(axis=0))),
            "detected_mm": float(np.linalg.norm(found.detected_mm - true, axis=1)[INNER].mean()),
            "landmarks_mm": float(np.linalg.norm(fitted - true, axis=1)[INNER].mean()),
            "confidence": found.confidence, "doubtful": found.doubtful,
            "median_mm": found.fit.median_mm, "coverage": found.fit.coverage, "unit_found": found.unit,
        }  # fmt: skip
        row["outcome"] = "aligned" if float(row["angle_deg"]) <= 5 and float(row["offset_mm"]) <= 3 else "wrong"
    except OmoteError as problem:
        row |= {"outcome": "refused", "message": str(problem)}
    return row | {"time_s": time.perf_counter() - began}


def judge_other(index: int, heads: list[HeadModel]) -> Row:
    """Align scans without a face, or with two: only a refusal is correct."""
    scan, kind = make_other(index, heads)
    row: Row = {"index": index, "kind": kind}
    try:
        found = align(scan, head=heads[0], refinement=False)
        row |= {"outcome": "accepted", "confidence": found.confidence, "doubtful": found.doubtful}
    except OmoteError as problem:
        row |= {"outcome": "refused", "message": str(problem)}
    return row


def measure(
    count: int = 500,
    others: int = 200,
    start: int = 0,
    rows: list[Row] | None = None,
    kinds: Sequence[str] = KINDS,
) -> Row:
    """Flat summary of those of ``count`` scans that are of ``kinds``; each row goes to ``rows`` and is printed as it comes."""
    heads = [shipped_head()]
    shared = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if (shared / "data/ict_facekit.npz").exists():
        heads.append(ict_head(shared / "data/ict_facekit.npz"))
    rows = [] if rows is None else rows

    def done(row: Row) -> Row:
        rows.append(row)
        print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
        return row

    faces = [done(judge(i, heads)) for i in range(start, start + count) if KINDS[i % len(KINDS)] in kinds]
    none = [done(judge_other(i, heads)) for i in range(start, start + others)]
    outcomes = Counter(str(r["outcome"]) for r in faces)
    accepted = [r for r in faces if r["outcome"] != "refused"]
    good = [r for r in faces if r["outcome"] == "aligned"]
    wrong = outcomes["wrong"] + sum(r["outcome"] == "accepted" for r in none)
    result: Row = {
        "align/count": len(faces), "align/others": len(none), "align/heads": "+".join(h.name for h in heads),
        **{f"align/share_{k}": outcomes[k] / max(len(faces), 1) for k in ("aligned", "refused", "wrong")},
        # Of everything that passes, faces and others alike.
        "align/share_wrong_of_accepted": wrong / max(len(accepted) + sum(r["outcome"] == "accepted" for r in none), 1),
        "align/share_others_accepted": sum(r["outcome"] == "accepted" for r in none) / max(len(none), 1),
        # A wrong pose must say so, and a good one should not cry wolf.
        "align/share_wrong_unsaid": float(np.mean([r["outcome"] == "wrong" and not r["doubtful"] for r in faces])),
        "align/share_good_doubtful": float(np.mean([bool(r["doubtful"]) for r in good])),
        "align/detected_mm": float(np.mean([float(r["detected_mm"]) for r in good])),
        "align/landmarks_mm": float(np.mean([float(r["landmarks_mm"]) for r in good])),
        "align/angle_deg_median": float(np.median([float(r["angle_deg"]) for r in good])),
        "align/offset_mm_median": float(np.median([float(r["offset_mm"]) for r in good])),
        "align/time_s_median": float(np.median([float(r["time_s"]) for r in faces])),
        "align/time_s_max": max(float(r["time_s"]) for r in faces),
    }  # fmt: skip
    for kind in KINDS:
        of = [r["outcome"] for r in faces if r["kind"] == kind]
        result[f"align/kind/{kind}"] = " ".join(f"{k} {n}" for k, n in sorted(Counter(map(str, of)).items()))
    for kind in OTHERS:
        of = [r["outcome"] for r in none if r["kind"] == kind]
        result[f"align/without_one_face/{kind}"] = " ".join(
            f"{k} {n}" for k, n in sorted(Counter(map(str, of)).items())
        )
    return result


def run() -> Row:
    """For ``make bench``."""
    return measure()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--others", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    rows: list[Row] = []
    result = measure(given.count, given.others, given.start, rows, given.kinds)
    print(json.dumps(result, indent=1))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "align.json").write_text(json.dumps({**result, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
