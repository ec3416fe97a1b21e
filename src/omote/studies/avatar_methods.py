"""Meshes of unseen persons by every compared method, and their measurements.

Under ``weights``, every method gets the true ARKit weights, as drawn in the population. Under ``names``, the avatar is the result
of `omote avatar` for the seven names, and the ground truth has the weights that the avatar's expressions were made with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from omote.align.align import Alignment, align
from omote.asset.eyes import iris_angle
from omote.asset.glb import glb_bytes
from omote.asset.glb_read import read_avatar
from omote.asset.materials import materials_of
from omote.asset.personalise import personal_units
from omote.asset.primitives import PRIMITIVES
from omote.asset.texture import bake_texture
from omote.datasets.population import Person, draw_person
from omote.diffusion.settings import EditSettings
from omote.errors import AlignmentError
from omote.evaluation.anatomy import DrawnFace, find_lips, folded, front_triangles, measure_anatomy, visible_mm2
from omote.evaluation.avatars import lip_gap_mm, mesh_errors, motion_kept, seam_apart_mm, true_motion
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.judges.panel import ExpressionJudges, load_expression_judges
from omote.evaluation.measure import judged
from omote.evaluation.records import PersonRecords, Record, Row, Table, load_records, save_records
from omote.evaluation.summary import merged, summarise, summarise_parts
from omote.geometry.camera import orbit_camera, project, transform
from omote.geometry.cloud import sample_surface
from omote.head.expressions import ARKIT_NAMES, CATEGORIES, expressions_of
from omote.head.model import PARTS, HeadModel
from omote.head.region import head_region
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads
from omote.lift.register import register_expression, settled, still_in
from omote.lift.solids import find_solids
from omote.lift.untangle import RestSkin, rest_skin
from omote.pipelines.result import AvatarResult
from omote.pipelines.rgbd import RgbdPipeline, rest_face
from omote.pipelines.settings import AvatarSettings
from omote.pipelines.sheet import render_glb
from omote.progress import Step, Steps, finish
from omote.rendering.appearance import paint
from omote.rendering.rgbd import render_head
from omote.rendering.sensor import draw_sensor, sense
from omote.rgbd.codec import pack_images, unpack_images
from omote.rgbd.conditions.motion import Motion
from omote.rgbd.protocol import Editor
from omote.rgbd.warp import moved
from omote.runs import Stopwatch
from omote.studies.avatar_page import chart, write_avatar_page
from omote.studies.avatars import AvatarSuite, Capture
from omote.studies.base import Results, Work
from omote.studies.table import CEILING, MODEL, REFUSED
from omote.types import Avatar, Expression, Head, Mesh, PointCloud, Rgbd, Scan

HEAD_EDIT, PLAIN, TRANSFER = Row("head_edit"), Row("head_edit_plain"), Row("deformation_transfer")
MOVED, DRAWN, REST = Row("moved_source"), Row("drawn_motion"), Row("rest")
SENSOR_STREAM, POINTS_STREAM, EXPRESSIVE_STREAM = 71, 73, 79
NUM_POINTS = 20_000
FRAME_PX, FRAME_DISTANCE_MM, FRAME_FIELD_MM = 480, 600.0, 330.0
VIEW_PX, TEXTURE_PX = 256, 512
BARE_MM2 = 2.0  # visible area of teeth at rest from which on a mouth counts as open
Posed = Float[np.ndarray, "k v 3"]


@dataclass(frozen=True, kw_only=True)
class GroundTruthHead:
    """A person's ground-truth mesh.

    Attributes:
        head: head model of the person's own family.
        identity: identity coefficients.
        canonical_from_own: similarity from the family's frame to the avatar's frame.
    """

    head: HeadModel
    identity: Float[np.ndarray, "i"]
    canonical_from_own: Float[np.ndarray, "4 4"]

    def posed(self, weights: Sequence[Float[np.ndarray, "52"] | None]) -> Posed:
        """Vertices in the avatar's frame for each set of ARKit weights; None means at rest."""
        return np.stack([
            transform(self.canonical_from_own, self.head.vertices(self.identity, w).astype(np.float64)) for w in weights
        ])  # fmt: skip

    @property
    def skin(self) -> Int[np.ndarray, "f 3"]:
        """Triangles of the skin."""
        return self.head.faces[self.head.face_part == PARTS.index("skin")].astype(np.int64)


def measure_avatars(suite: AvatarSuite, work: Work) -> Steps[Results]:
    """Measure every person's avatars, one per capture.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    population = suite.unseen()
    heads = population_heads(population.ict)
    model, judges = suite.model(), load_expression_judges()
    items = {f"{name}_{capture}": (int(name), capture) for name in suite.names() for capture in suite.captures}

    def measured(name: str) -> PersonRecords:
        index, capture = items[name]
        person = draw_person(population, index, heads)
        stressed = capture == "mesh" and index < suite.stressed
        return measure_avatar(person, capture, heads, model, judges, seed=suite.seed, stressed=stressed)

    records = yield from work.kept("avatars", list(items), measured, save_records, load_records)
    tables = [
        summed([records[f"{name}_{capture}"] for name in suite.names()], capture=capture) for capture in suite.captures
    ]
    table = merged(*tables)
    return Results(table=table, figure=chart(table), page=lambda out: write_avatar_page(out, table))


def table_of(folder: Path) -> Table:
    """The table of a result folder's existing avatars."""
    found: dict[str, list[PersonRecords]] = {}
    for path in sorted((folder / "avatars").glob("*.json")):
        found.setdefault(path.stem.rpartition("_")[2], []).append(load_records(path))
    return merged(*(summed(persons, capture=capture) for capture, persons in found.items()))


def summed(persons: Sequence[PersonRecords], **at: str) -> Table:
    """Rows of persons with the same capture, in total and by head family, and the share without a detected face."""
    found = [person for person in persons if person.find(MODEL, REFUSED) is None]
    table = merged(summarise(found), summarise_parts(found)) if found else {}
    table = merged(table, {MODEL: {REFUSED: 1 - len(found) / len(persons)}})
    return {row.under(**at): cells for row, cells in table.items()}


def measure_avatar(
    person: Person,
    capture: Capture,
    heads: Sequence[HeadModel],
    model: Editor,
    judges: ExpressionJudges,
    *,
    seed: int,
    stressed: bool,
) -> PersonRecords:
    """All measurements of a person's avatar.

    Args:
        person: person with an expression of each category.
        capture: kind of scan of the person.
        heads: head families; the first one is the avatars'.
        model: networks of the pipeline.
        judges: the expression judges.
        seed: seed of the noise.
        stressed: whether to measure single units and pairs of expressions too.
    """
    head, own = heads[0], heads[person.head]
    order = [CATEGORIES.index(e.category) for e in person.expressions]
    kept = PersonRecords(
        parts={"head": own.name},
        category=tuple(order),
        intensity=tuple(e.intensity for e in person.expressions),
        records=(),
    )
    shown = shown_by(person, capture)
    try:
        alignment = align(scan_of(person, own, capture, shown), head=head)
    except AlignmentError:
        return replace(kept, records=(Record(row=MODEL, measure=REFUSED, values=np.ones(1)),))
    # Another seed of the avatar would choose other forms of the expressions.
    steps = RgbdPipeline(model, head).made(alignment, expressions_of(("all",)), AvatarSettings(), watch=Stopwatch())
    made = finish(steps, None)
    truth = GroundTruthHead(head=own, identity=person.identity, canonical_from_own=alignment.canonical_from_scan)
    avatar = MadeMeshes.of(made, alignment)
    weights = [e.arkit for e in person.expressions]
    records = [
        *by_weights(
            avatar, made, alignment, truth.posed([None, *weights]), truth.skin, person.expressions, model, seed
        ),
        *by_names(avatar, made, truth, alignment, judges, order),
        *rest_measures(avatar, truth, alignment, shown),
        *(stress(avatar) if stressed else unstressed()),
    ]
    return replace(kept, records=tuple(records))


@dataclass(frozen=True, kw_only=True)
class MadeMeshes:
    """Meshes of an avatar.

    Attributes:
        head: head model of the meshes.
        neutral_mm: vertices at rest.
        units_mm: offsets of the ARKit units, as stored in the avatar.
        linear_mm: offsets of the linear units, used to register images.
        expressions_mm: offsets of the categories.
        skin: skin at rest, from which strain is measured.
    """

    head: HeadModel
    neutral_mm: Float[np.ndarray, "v 3"]
    units_mm: Float[np.ndarray, "52 v 3"]
    linear_mm: Float[np.ndarray, "52 v 3"]
    expressions_mm: Mapping[str, Float[np.ndarray, "v 3"]]
    skin: RestSkin

    @classmethod
    def of(cls, made: AvatarResult, alignment: Alignment) -> MadeMeshes:
        """The meshes of a pipeline's result for an aligned scan."""
        avatar, neutral = made.avatar, made.avatar.neutral.vertices_mm
        return cls(
            head=made.head,
            neutral_mm=neutral,
            units_mm=np.stack([avatar.morphs_mm[name] for name in ARKIT_NAMES]),
            linear_mm=personal_units(made.head, neutral, style_share=made.head.style_share(alignment.fit.identity)),
            expressions_mm={e.name: avatar.morphs_mm[e.name] for e in made.expressions},
            skin=rest_skin(made.head, neutral),
        )

    def edited(self, weights: Float[np.ndarray, "k 52"], *rows: Row) -> dict[Row, Posed]:
        """Meshes by the methods without networks, or by those of ``rows``."""
        neutral = self.neutral_mm
        methods: dict[Row, Callable[[], Posed]] = {
            HEAD_EDIT: lambda: neutral + np.tensordot(weights, self.units_mm, 1),
            PLAIN: lambda: neutral + np.tensordot(weights, self.head.expression_mm, 1),
            TRANSFER: lambda: DeformationTransfer(self.head).deformed(neutral.astype(np.float64), weights),
            REST: lambda: np.repeat(neutral[None], len(weights), axis=0),
        }
        return {row: method() for row, method in methods.items() if not rows or row in rows}

    def drawn(self, targets: Mapping[str, Float[np.ndarray, "v 3"]]) -> DrawnFace:
        """The avatar as drawn, with morph targets."""
        return drawn_face(self.head, self.neutral_mm, targets)


def drawn_face(
    head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], targets: Mapping[str, Float[np.ndarray, "v 3"]]
) -> DrawnFace:
    """A head's mesh as its drawn parts."""
    part = {name: np.isin(head.face_part, [PARTS.index(p) for p in parts]) for name, parts in PRIMITIVES.items()}
    return DrawnFace(
        vertices_mm=vertices_mm.astype(np.float64),
        targets_mm={name: offset.astype(np.float64) for name, offset in targets.items()},
        triangles={name: head.faces[chosen].astype(np.int64) for name, chosen in part.items()},
    )


def shown_by(person: Person, capture: Capture) -> Float[np.ndarray, "52"] | None:
    """ARKit weights of the expression in a scan, or None at rest."""
    if capture != "expressive":
        return None
    rng = np.random.default_rng([EXPRESSIVE_STREAM, person.index])
    return person.expressions[1 + int(rng.integers(len(person.expressions) - 1))].arkit


def scan_of(person: Person, own: HeadModel, capture: Capture, shown: Float[np.ndarray, "52"] | None) -> Scan:
    """A simulated scan of a person."""
    vertices, colors = own.vertices(person.identity, shown), np.clip(paint(own, person.appearance), 0, 1)
    if capture == "points":
        seen = own.faces[head_region(own).exterior[own.faces].all(axis=1)].astype(np.int64)
        rng = np.random.default_rng([POINTS_STREAM, person.index])
        points, _, face, weights = sample_surface(vertices.astype(np.float64), seen, NUM_POINTS, rng)
        return PointCloud(points=points, colors=np.einsum("nk,nkc->nc", weights, colors[seen[face]]))
    if capture == "frame":
        rng = np.random.default_rng([SENSOR_STREAM, person.index])
        yaw, pitch = rng.normal(0, 0.08, 2)
        camera = orbit_camera(
            size=FRAME_PX, yaw_rad=yaw, pitch_rad=pitch, distance_mm=FRAME_DISTANCE_MM, field_mm=FRAME_FIELD_MM
        )
        image = render_head(own, vertices, camera, albedo=colors, appearance=person.appearance, light=person.light)
        return sense(image, draw_sensor(rng), rng)
    return Mesh(vertices=vertices.astype(np.float64), faces=own.faces.astype(np.int64), vertex_colors=colors)


def by_weights(
    avatar: MadeMeshes,
    made: AvatarResult,
    alignment: Alignment,
    true_mm: Posed,
    skin: Int[np.ndarray, "f 3"],
    expressions: Sequence[Expression],
    model: Editor,
    seed: int,
) -> Iterator[Record]:
    """Mesh errors of every method, given the true weights.

    Args:
        avatar: meshes of the avatar.
        made: result of the pipeline.
        alignment: alignment of the scan.
        true_mm: true vertices in the avatar's frame, at rest and per expression.
        skin: triangles of the true skin.
        expressions: expressions with their weights.
        model: networks of the pipeline.
        seed: seed of the noise.
    """
    given = [e.arkit for e in expressions if e.arkit is not None]
    truth = true_motion(avatar.head, avatar.neutral_mm, true_mm[0], true_mm[1:], skin)
    rows = avatar.edited(np.stack(given))
    face = rest_face(alignment, avatar.head, made.source.camera)
    resting = Expression(category="neutral", arkit=np.zeros(len(ARKIT_NAMES), np.float32))
    reference, *images = model.edit(made.source, [resting, *expressions], EditSettings(seed=seed), face=face)
    drawn = [face.drawn_mm(weights) for weights in given]
    rows[MODEL] = registered(avatar, images, reference, expressions, drawn)
    rows[MOVED] = registered(avatar, moved_source(made.source, expressions, face), made.source, expressions)
    rows[DRAWN] = np.stack([
        settled(avatar.head, avatar.neutral_mm, avatar.neutral_mm + offset, weights, skin=avatar.skin, within_reach=False)
        for offset, weights in zip(drawn, given, strict=True)
    ])  # fmt: skip
    for row, vertices in rows.items():
        for key, values in mesh_errors(avatar.head, avatar.neutral_mm, vertices, truth).items():
            yield Record(row=row.under(asked="weights"), measure=key, values=values)


def registered(
    avatar: MadeMeshes,
    images: Sequence[Rgbd],
    reference: Rgbd,
    expressions: Sequence[Expression],
    drawn_mm: Sequence[Float[np.ndarray, "v 3"]] | None = None,
) -> Posed:
    """The head registered to images, as in the pipeline with given weights; by pixels alone without ``drawn_mm``."""
    still = still_in(avatar.head, avatar.neutral_mm, reference)
    expected = [None] * len(images) if drawn_mm is None else drawn_mm
    return np.stack([
        register_expression(
            avatar.head, avatar.neutral_mm, image, reference, units_mm=avatar.linear_mm, prior=e.arkit,
            skin=avatar.skin, still=still, drawn_mm=drawn, within_reach=False,
        ).vertices_mm
        for image, e, drawn in zip(images, expressions, expected, strict=True)
    ])  # fmt: skip


def moved_source(source: Rgbd, expressions: Sequence[Expression], face: RestFace) -> list[Rgbd]:
    """The source moved by the motion images, without a network."""
    motion = Motion.of(expressions, face)
    assert motion is not None, "a face is given"
    with torch.no_grad():
        images = moved(pack_images([source] * len(expressions)), motion.image)
    return unpack_images(images, [source.camera] * len(expressions))


def by_names(
    avatar: MadeMeshes,
    made: AvatarResult,
    truth: GroundTruthHead,
    alignment: Alignment,
    judges: ExpressionJudges,
    order: Sequence[int],
) -> Iterator[Record]:
    """Mesh errors, anatomy and recognition of the seven named expressions, in the person's own order of categories."""
    named = {e.category: e.arkit for e in made.expressions}
    given = [named[CATEGORIES[k]] for k in order]
    weights = np.stack([np.zeros(len(ARKIT_NAMES)) if w is None else w for w in given])
    rest, *_ = truth.posed([None])
    true = truth.posed(given)
    tied = true_motion(avatar.head, avatar.neutral_mm, rest, true, truth.skin)
    rows = avatar.edited(weights, HEAD_EDIT, REST)
    rows[MODEL] = avatar.neutral_mm + np.stack([avatar.expressions_mm[CATEGORIES[k]] for k in order])
    for row, vertices in rows.items():
        for key, values in mesh_errors(avatar.head, avatar.neutral_mm, vertices, tied).items():
            yield Record(row=row.under(asked="names"), measure=key, values=values)
    yield from anatomy(avatar.drawn({}), {row: rows[row] for row in (MODEL, HEAD_EDIT)})
    yield from recognition(rows, made, truth, alignment, judges, order, true)


def anatomy(face: DrawnFace, rows: Mapping[Row, Posed]) -> Iterator[Record]:
    """Folds, crossings and movement of the mouth's corners, per row and pose."""
    lips, solids, front = find_lips(face), find_solids(face.vertices_mm, face.triangles), front_triangles(face)
    for row, posed in rows.items():
        crossing = np.array([lips.crossing(v).sum() for v in posed], np.float64)
        piercing = np.array([solids.piercing(v) for v in posed], np.float64)
        for key, values in (
            ("avatar/folded", np.array([folded(face, front, v).sum() for v in posed], np.float64)),
            ("avatar/lips_crossing", crossing),
            ("avatar/piercing", piercing),
            ("avatar/whole", ((crossing == 0) & (piercing == 0)).astype(np.float64)),
            ("avatar/corner_mm", np.array([lips.corner_travel(v - face.vertices_mm) for v in posed])),
            ("avatar/corner_difference_mm", np.array([lips.corner_difference(v - face.vertices_mm) for v in posed])),
        ):
            yield Record(row=row.under(asked="names"), measure=key, values=values)


def recognition(
    rows: Mapping[Row, Posed],
    made: AvatarResult,
    truth: GroundTruthHead,
    alignment: Alignment,
    judges: ExpressionJudges,
    order: Sequence[int],
    true: Posed,
) -> Iterator[Record]:
    """The judges' answers on renders of the generated meshes, and of the true meshes with the same materials."""
    for row, posed in rows.items():
        yield from _judged(
            row, made.head, made.avatar.neutral.vertices_mm, posed, made.avatar.texture, made, judges, order
        )
    rest, *_ = truth.posed([None])
    texture = bake_texture(truth.head, rest, alignment.scan, size=TEXTURE_PX).texture
    yield from _judged(CEILING, truth.head, rest, true, texture, made, judges, order)


def _judged(
    row: Row,
    head: HeadModel,
    rest_mm: Float[np.ndarray, "v 3"],
    posed: Posed,
    texture: Float[np.ndarray, "h w 3"],
    made: AvatarResult,
    judges: ExpressionJudges,
    order: Sequence[int],
) -> Iterator[Record]:
    names = [CATEGORIES[k] for k in order]
    rgb, pixels = rendered_meshes(head, rest_mm, posed, texture, made, names)
    yield from judged(row.under(asked="names"), rgb, pixels, names, judges)


def rendered_meshes(
    head: HeadModel,
    rest_mm: Float[np.ndarray, "v 3"],
    posed: Posed,
    texture: Float[np.ndarray, "h w 3"],
    made: AvatarResult,
    names: Sequence[str],
) -> tuple[Float[Tensor, "k 3 s s"], Float[Tensor, "k 68 2"]]:
    """Renders of a mesh in several poses as an avatar's file shows it, with its landmarks at rest in pixels.

    Args:
        head: head model of the mesh.
        rest_mm: vertices at rest.
        posed: vertices in each pose.
        texture: texture of the skin.
        made: avatar whose other materials are used.
        names: name of each pose, all different.
    """
    avatar = Avatar(
        neutral=Head(
            model_name=head.name, vertices_mm=rest_mm.astype(np.float32), inferred=np.zeros(len(rest_mm), np.bool_)
        ),
        morphs_mm={name: (v - rest_mm).astype(np.float32) for name, v in zip(names, posed, strict=True)},
        texture=texture,
        texture_inferred=np.zeros(texture.shape[:2], np.bool_),
    )
    materials = materials_of(made.appearance, iris_rad=iris_angle(head, rest_mm))
    file = read_avatar(glb_bytes(avatar, head, materials=materials, keep_neutral=True))
    camera = orbit_camera(size=VIEW_PX)
    images = np.stack([render_glb(file, file.weights(**{name: 1.0}), camera, supersample=1) for name in names])
    pixels = torch.from_numpy(project(camera, head.landmarks(rest_mm))[:, :2]).float()[None].repeat(len(names), 1, 1)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float(), pixels


def rest_measures(
    avatar: MadeMeshes, truth: GroundTruthHead, alignment: Alignment, shown: Float[np.ndarray, "52"] | None
) -> Iterator[Record]:
    """Teeth and lips of the avatar's rest shape, and the remains of the source's expression in it."""
    rest, source = truth.posed([None, shown])
    teeth = visible_mm2(avatar.drawn({}), "teeth")
    true_teeth = visible_mm2(drawn_face(truth.head, rest, {}), "teeth")
    gap = abs(lip_gap_mm(avatar.head, avatar.neutral_mm) - lip_gap_mm(truth.head, rest))
    bare = float("nan") if true_teeth > BARE_MM2 else float(teeth <= BARE_MM2)
    apart = seam_apart_mm(avatar.head, avatar.neutral_mm, truth.head, rest)
    values = {
        "teeth_rest_mm2": max(teeth - true_teeth, 0.0), "teeth_hidden": bare, "lip_gap_mm": gap, "seam_apart_mm": apart
    }  # fmt: skip
    if shown is not None:
        tied = true_motion(avatar.head, alignment.vertices_mm, source, rest[None], truth.skin)
        values["motion_kept"] = motion_kept(avatar.neutral_mm, alignment.vertices_mm, tied)
    for key, value in values.items():
        yield Record(row=MODEL, measure=f"avatar/{key}", values=np.array([value]))


STRESSES = ("folded", "lips_crossing", "corner_mm")


def stress(avatar: MadeMeshes) -> Iterator[Record]:
    """The worst values over all single ARKit units, and over all pairs of expressions at .7 each."""
    # mouthClose closes the lips of an open jaw: applied alone, it has to cross them.
    targets = {**avatar.expressions_mm, **dict(zip(ARKIT_NAMES, avatar.units_mm, strict=True))}
    found = measure_anatomy(avatar.drawn(targets))
    for kind in ("unit", "pair"):
        for what in STRESSES:
            worst = max(v for key, v in found.items() if key.startswith(f"{kind}/{what}/") and "mouthClose" not in key)
            yield Record(row=MODEL, measure=f"avatar/{what}_worst_{kind}", values=np.array([worst]))


def unstressed() -> Iterator[Record]:
    """The records of `stress` without values."""
    for kind in ("unit", "pair"):
        for what in STRESSES:
            yield Record(row=MODEL, measure=f"avatar/{what}_worst_{kind}", values=np.array([np.nan]))
