"""ICT-FaceKit (Light) as a head model, loaded from a checkout of its repository or a packed ``.npz``.

Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; MIT licence, © 2020 USC ICT. Its identity
modes come from real light-stage scans, which makes it the richer source of training populations. It is not shipped.
"""

from __future__ import annotations

import json
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.errors import HeadModelError
from omote.files import reading
from omote.head.expressions import ARKIT_NAMES
from omote.head.eyes import eyeball, look_deltas
from omote.head.model import PARTS, HeadModel

# Vertex ranges of the full model, from its README ("Vertex Ordering"); face, head, neck and sockets come first.
MOUTH_SOCKET = (11248, 13294)
GUMS_TONGUE = (14062, 17039)
TEETH = (17039, 21451)
SCLERA = {"left": (21451, 22221), "right": (23021, 23791)}
UPPER_TEETH_MIN_Y_CM = -3.05  # boundary between the dental arches at rest
MM_PER_CM = 10.0
MOST_BYTES = 2 << 30


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    wanted = ("vertices_cm", "faces", "uv", "faces_uv", "identity_modes_cm", "expression_shapes_cm",
              "expression_names", "landmarks68")  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"arrays of {size:,} bytes")
    with np.load(path, allow_pickle=False) as data:
        missing = [k for k in wanted if k not in data]
        if missing:
            raise ValueError(f"no {missing[0]}")
        return {k: data[k] for k in wanted}


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(vertices, uv, faces, faces_uv) of one of the repository's quad OBJ files, fan-triangulated."""
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    faces: list[list[int]] = []
    faces_uv: list[list[int]] = []
    for line in path.read_text().splitlines():
        key, *rest = line.split() or [""]
        if key == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif key == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif key == "f":
            corner = [[int(i) - 1 for i in c.split("/")[:2]] for c in rest]
            for k in range(1, len(corner) - 1):
                tri = (corner[0], corner[k], corner[k + 1])
                faces.append([c[0] for c in tri])
                faces_uv.append([c[1] for c in tri])
    return np.array(vertices, np.float32), np.array(uv, np.float32), np.array(faces), np.array(faces_uv)


def _read_checkout(root: Path) -> dict[str, np.ndarray]:
    folder = next((p for p in (root / "FaceXModel", root) if (p / "generic_neutral_mesh.obj").is_file()), None)
    if folder is None:
        raise HeadModelError(f"{root}: expected FaceXModel/generic_neutral_mesh.obj of an ICT-FaceKit checkout")
    vertices, uv, faces, faces_uv = _read_obj(folder / "generic_neutral_mesh.obj")
    index = json.loads((folder / "vertex_indices.json").read_text())
    identity = sorted(folder.glob("identity*.obj"))
    shapes = sorted(p for p in folder.glob("*.obj") if p not in identity and p.name != "generic_neutral_mesh.obj")

    def delta(path: Path) -> np.ndarray:
        return _read_obj(path)[0] - vertices

    return {
        "vertices_cm": vertices, "uv": uv, "faces": faces, "faces_uv": faces_uv,
        "identity_modes_cm": np.stack([delta(p) for p in identity]),
        "expression_shapes_cm": np.stack([delta(p) for p in shapes]),
        "expression_names": np.array([p.stem for p in shapes]),
        "landmarks68": np.array(index["idx_to_landmark_verts"]),
    }  # fmt: skip


def _expression_basis(raw: dict[str, np.ndarray], size: int) -> dict[str, Float[np.ndarray, "v 3"]]:
    """ICT's expression shapes by ARKit name, in mm; ICT's cheekRaiser joins cheekSquint (ARKit has one unit for both)."""
    out = {name: np.zeros((size, 3), np.float32) for name in ARKIT_NAMES}
    for name, shape in zip(raw["expression_names"].tolist(), raw["expression_shapes_cm"], strict=True):
        arkit = name.replace("_L", "Left").replace("_R", "Right")
        if arkit == "browInnerUpLeft" or arkit == "browInnerUpRight":
            arkit = "browInnerUp"
        if arkit == "cheekPuffLeft" or arkit == "cheekPuffRight":
            arkit = "cheekPuff"
        weight = 1.0
        if arkit.startswith("cheekRaiser"):
            arkit, weight = arkit.replace("cheekRaiser", "cheekSquint"), 0.5
        if arkit in out:
            out[arkit] += weight * shape.astype(np.float32) * MM_PER_CM
    return out


@lru_cache(maxsize=2)
def ict_head(path: Path) -> HeadModel:
    """ICT-FaceKit with procedural eyeballs, in the canonical frame and with ARKit-52 units.

    ICT has no tongueOut; that unit is zero. Lashes, tear film and occlusion strips are left out.

    Args:
        path: path of the repository's checkout or of a packed npz.

    Raises:
        HeadModelError: the path does not exist, or its contents have another layout.
    """
    if not path.exists():
        raise HeadModelError(f"{path}: no such file; give a checkout of ICT-FaceKit or its packed npz")
    with reading(path, HeadModelError, "not ICT-FaceKit", "give a checkout or its packed npz"):
        head = _built(_read_checkout(path) if path.is_dir() else _read_npz(path))
        head.check()
    return head


def _built(raw: dict[str, np.ndarray]) -> HeadModel:
    rest_cm = raw["vertices_cm"].astype(np.float32)
    center_cm = {side: rest_cm[slice(*SCLERA[side])] for side in SCLERA}
    center_cm = {side: (v.max(0) + v.min(0)) / 2 for side, v in center_cm.items()}
    origin_cm = (center_cm["left"] + center_cm["right"]) / 2

    kept = np.arange(TEETH[1])
    base_mm = (rest_cm[kept] - origin_cm) * MM_PER_CM
    identity_mm = raw["identity_modes_cm"][:, kept].astype(np.float32) * MM_PER_CM
    expression = {k: v[kept] for k, v in _expression_basis(raw, len(rest_cm)).items()}

    ball, ball_faces, ball_uv = eyeball()
    parts = [base_mm]
    identity_parts = [identity_mm]
    faces_kept = raw["faces"].max(axis=1) < len(kept)
    faces = [raw["faces"][faces_kept].astype(np.int64)]
    faces_uv = [raw["faces_uv"][faces_kept].astype(np.int64)]
    uv = [raw["uv"].astype(np.float32)]
    labels = [_part_labels(raw["faces"][faces_kept], rest_cm)]
    expression_parts = {k: [v] for k, v in expression.items()}
    for side in ("left", "right"):
        lo, hi = SCLERA[side]
        rest = rest_cm[lo:hi]
        center = (center_cm[side] - origin_cm) * MM_PER_CM
        radius = float(np.median(np.linalg.norm(rest - center_cm[side], axis=1))) * MM_PER_CM
        vertices = ball * radius + center
        # Each identity mode moves and scales the eyeball as a whole, by the best-fitting translation and uniform scale.
        modes = raw["identity_modes_cm"][:, lo:hi].astype(np.float32) * MM_PER_CM
        shift = modes.mean(axis=1)
        arm = (rest - center_cm[side]) * MM_PER_CM
        arm = arm - arm.mean(axis=0)
        scale = np.einsum("ivc,vc->i", modes - shift[:, None], arm) / np.sum(arm**2)
        identity_parts.append(shift[:, None] + scale[:, None, None] * (vertices - center)[None])
        look = look_deltas(vertices, center, left=side == "left")
        for name in ARKIT_NAMES:
            expression_parts[name].append(look.get(name, np.zeros_like(vertices)))
        faces.append(ball_faces + sum(map(len, parts)))
        faces_uv.append(ball_faces + sum(map(len, uv)))
        uv.append(ball_uv)
        labels.append(np.full(len(ball_faces), PARTS.index(f"eye_{side}"), np.uint8))
        parts.append(vertices.astype(np.float32))

    landmarks = raw["landmarks68"].astype(np.int64)
    return HeadModel(
        name="ict",
        template_mm=np.concatenate(parts).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        uv=np.concatenate(uv),
        faces_uv=np.concatenate(faces_uv).astype(np.int32),
        face_part=np.concatenate(labels),
        identity_mm=np.concatenate(identity_parts, axis=1).astype(np.float32),
        expression_mm=np.stack([np.concatenate(expression_parts[n]) for n in ARKIT_NAMES]).astype(np.float32),
        landmark_vertices=np.repeat(landmarks[:, None], 3, axis=1),
        landmark_weights=np.tile(np.array([1.0, 0.0, 0.0]), (68, 1)),
    )


def _part_labels(faces: np.ndarray, rest_cm: np.ndarray) -> np.ndarray:
    first = faces.min(axis=1)
    y = rest_cm[faces].mean(axis=1)[:, 1]
    out = np.full(len(faces), PARTS.index("skin"), np.uint8)
    out[(first >= MOUTH_SOCKET[0]) & (first < MOUTH_SOCKET[1])] = PARTS.index("mouth")
    teeth = (first >= TEETH[0]) & (first < TEETH[1])
    out[teeth & (y >= UPPER_TEETH_MIN_Y_CM)] = PARTS.index("teeth_upper")
    out[teeth & (y < UPPER_TEETH_MIN_Y_CM)] = PARTS.index("teeth_lower")
    gums = (first >= GUMS_TONGUE[0]) & (first < GUMS_TONGUE[1])
    out[gums] = PARTS.index("mouth")
    # The tongue is the part of the gums' mesh inside the lower dental arch.
    center = rest_cm[faces].mean(axis=1)
    inside = (np.abs(center[:, 0]) < 1.9) & (center[:, 2] < 8.7) & (y < -3.0)
    out[gums & inside] = PARTS.index("tongue")
    return out
