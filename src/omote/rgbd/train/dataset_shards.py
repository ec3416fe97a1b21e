"""Datasets of scans → shards that training reads like a rendered population's: one shard per subject.

    neutral scan → align → RGB-D image 0, the subject's own head ─┐
    other scans  → align → fit pose and ARKit weights of that head → RGB-D image in the same frame

Pose and ARKit weights, known for a rendered population but not for a dataset, are fitted to each scan with the identity fixed
(also if the label names units, because a person never performs exactly the requested unit); landmarks are those of the
fitted heads. A label that is none of the seven categories is stored as `NO_CATEGORY`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.align.align import Alignment, align
from omote.align.surface import surface_of
from omote.datasets.cache import DEPTH_UNIT_MM, NO_CATEGORY, empty_arrays, write_shard
from omote.datasets.layouts.layout import Problem, ScanItem, problem_of
from omote.datasets.layouts.splits import DatasetSplit, subject_number
from omote.errors import AlignmentError, ConfigError, DatasetError, ScanError
from omote.files import reading
from omote.formats.images import MAX_TEXTURE_SIZE, read_rgb
from omote.formats.read import PLAIN, read_with_report
from omote.geometry.camera import FRONT_DISTANCE_MM, orbit_camera, project, transform
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.head.fit import fit_head
from omote.head.model import PARTS, HeadModel
from omote.head.rest_face import FIRST_INNER_LANDMARK, FittedFace, fit_face
from omote.progress import Step, Steps
from omote.rendering.source import source_image
from omote.shards.mapping import Executor, Here, map_shards
from omote.shards.worker import Loss, ShardDone
from omote.types import Camera, Mesh, PointCloud, Rgbd

# A posed expression, where a fit at rest expects almost none (`omote.head.fit.EXPRESSION_SIGMA`); wider priors let units
# that look alike rise against each other.
EXPRESSION_SIGMA = 0.4
FIT_POINTS, FIT_ITERATIONS = 40_000, 25


@dataclass(frozen=True, kw_only=True)
class DatasetRender:
    """How a dataset is rendered.

    Attributes:
        dataset: name of the layout, for the record.
        folder: folder of the dataset; shards name their files relative to it.
        size: pixels of a side.
        unit: unit of the scans' coordinates, or None to estimate it for each.
        split: split of the subjects, for the record.
        seed: seed of the splits, for the record.
    """

    dataset: str
    folder: Path
    size: int = 128
    unit: str | None = None
    split: DatasetSplit | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SubjectDone:
    """A subject that was rendered, found rendered, or given up.

    Attributes:
        subject: name of the subject.
        num_images: images in their shard; 0 without a shard.
        num_doubtful: images among them with a pose of low confidence.
        problems: scans that were skipped.
        notes: notes of the reader about the scans in the shard.
    """

    subject: str
    num_images: int
    num_doubtful: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A scan in the standard camera."""

    item: ScanItem
    image: Rgbd
    vertices_mm: Float[np.ndarray, "v 3"]
    arkit: Float[np.ndarray, "52"]
    doubtful: bool
    notes: tuple[Problem, ...]


def shard_folder(out: Path, subject: str) -> Path:
    """Where a subject's shard lies: a name that any file system takes, and no two subjects share."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", subject)[:40]
    return out / f"shard_{plain}_{subject_number(subject):016x}"


def render_subject(
    items: Sequence[ScanItem], config: DatasetRender, head: HeadModel, lost: Mapping[int, Loss]
) -> Steps[tuple[dict[str, np.ndarray] | None, list[_Seen], list[Problem]]]:
    """A subject's scans as the arrays of a shard, image 0 at rest; yields a step before each scan.

    Args:
        items: scans of one subject.
        config: how to render.
        head: the head model that is fitted.
        lost: scans that a process died of, by index.

    Returns:
        The arrays (None without a usable neutral scan), the scans that they hold, and the scans that were skipped.
    """
    problems = [Problem(path=items[index].geometry, reason=loss.reason) for index, loss in lost.items()]
    rest: _Seen | None = None
    fit: FittedFace | None = None
    usable = [(index, item) for index, item in enumerate(items) if index not in lost]
    left = [(index, item) for index, item in usable if not item.is_neutral]
    neutral = [(index, item) for index, item in usable if item.is_neutral]
    for number, (index, item) in enumerate(neutral):
        yield Step(stage="render", done=index, total=len(items), note=item.geometry.name)
        try:
            alignment, notes = _aligned(item, config, head)
            no_units = np.zeros(len(ARKIT_NAMES))
            seen = _seen(item, alignment, notes, head, alignment.vertices_mm, no_units, np.eye(4), config.size)
            landmarks = alignment.landmarks_mm.astype(np.float64)
            landmarks[:FIRST_INNER_LANDMARK] = np.nan
            fit = fit_face(head, seen.image, landmarks)
        except (ScanError, AlignmentError) as error:
            problems.append(problem_of(item.geometry, error))
            continue
        rest, left = seen, [*neutral[number + 1 :], *left]
        break
    if rest is None or fit is None:
        return None, [], problems
    shown = [rest]
    # The subject alone: their vertices at rest, and only expressions left to solve.
    own = replace(head, template_mm=rest.vertices_mm.astype(np.float32), identity_mm=head.identity_mm[:0])
    for index, item in left:
        yield Step(stage="render", done=index, total=len(items), note=item.geometry.name)
        try:
            alignment, notes = _aligned(item, config, head)
            shown.append(_seen(item, alignment, notes, head, *_moved(own, alignment), config.size))
        except (ScanError, AlignmentError) as error:
            problems.append(problem_of(item.geometry, error))
    return _arrays(shown, fit, config.size), shown, problems


def read_item(item: ScanItem) -> tuple[PointCloud | Mesh | Rgbd, list[Problem]]:
    """Read a scan of a dataset; the item's texture is put on a mesh that names none itself.

    Returns:
        The scan, and the reader's notes.

    Raises:
        ScanError: the scan or its texture cannot be read.
    """
    scan, report = read_with_report(item.geometry)
    notes = list(report.notes)
    if isinstance(scan, Mesh) and item.texture is not None and PLAIN in notes and scan.uv is not None:
        scan = replace(scan, texture=read_rgb(item.texture, item.texture.name, max_size=MAX_TEXTURE_SIZE))
        notes.remove(PLAIN)
    return scan, [Problem(path=item.geometry, reason=note) for note in notes]


def _aligned(item: ScanItem, config: DatasetRender, head: HeadModel) -> tuple[Alignment, list[Problem]]:
    scan, notes = read_item(item)
    return align(scan, head=head, unit=config.unit or "auto"), notes


def _moved(
    own: HeadModel, alignment: Alignment
) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, "52"], Float[np.ndarray, "4 4"]]:
    """A subject's head moved onto another of their scans: vertices, ARKit weights, and the scan's way into its frame.

    Alignment solves each scan's identity anew, and a part of the expression goes there; the frames differ by as much.
    """
    points, normals = surface_of(alignment.scan).near(np.eye(4), FIT_POINTS)
    fit = fit_head(
        own,
        points,
        landmarks=alignment.detected_mm,
        normals=normals,
        landmark_weights=alignment.landmark_confidence,
        fixed_scale=1.0,
        num_identity=0,
        iterations=FIT_ITERATIONS,
        expression_sigma=EXPRESSION_SIGMA,
    )
    back = np.eye(4)
    back[:3, 3] = fit.origin_mm
    return fit.vertices_mm + fit.origin_mm, fit.expression, back @ fit.canonical_from_scan


def _seen(
    item: ScanItem,
    alignment: Alignment,
    notes: Sequence[Problem],
    head: HeadModel,
    vertices: Float[np.ndarray, "v 3"],
    arkit: Float[np.ndarray, "52"],
    moved: Float[np.ndarray, "4 4"],
    size: int,
) -> _Seen:
    """An aligned scan, moved rigidly, as the networks would see it."""
    scan = alignment.scan
    if isinstance(scan, Mesh):
        scan = replace(scan, vertices=transform(moved, scan.vertices))
    else:
        normals = None if scan.normals is None else scan.normals @ moved[:3, :3].T
        scan = replace(scan, points=transform(moved, scan.points), normals=normals)
    image = source_image(scan, head, vertices, size, parts=PARTS)
    return _Seen(
        item=item, image=image, vertices_mm=vertices, arkit=arkit, doubtful=alignment.doubtful, notes=tuple(notes)
    )


def _arrays(shown: Sequence[_Seen], fit: FittedFace, size: int) -> dict[str, np.ndarray]:
    head, camera = fit.head, orbit_camera(size=size)
    arrays = empty_arrays(1, len(shown), size, head.num_identity)
    arrays["person"][0] = subject_number(shown[0].item.subject)
    arrays["fit_identity"][0], arrays["fit_expression"][0] = fit.identity, fit.expression
    arrays["fit_camera"][0], arrays["intrinsics"][0] = fit.camera.cam_from_world, camera.intrinsics
    for k, seen in enumerate(shown):
        image, item = seen.image, seen.item
        relative = np.where(image.mask, image.depth_mm - FRONT_DISTANCE_MM, 0) / DEPTH_UNIT_MM
        arrays["rgb"][0, k] = np.round(image.rgb * 255)
        arrays["depth"][0, k] = np.round(np.clip(relative, -32767, 32767))
        arrays["mask"][0, k] = image.mask
        arrays["landmarks"][0, k] = _landmarks_px(camera, head.landmarks(seen.vertices_mm))
        arrays["arkit"][0, k] = seen.arkit
        arrays["category"][0, k] = NO_CATEGORY if item.category is None else CATEGORIES.index(item.category)
        arrays["intensity"][0, k] = item.intensity
    return arrays


def _landmarks_px(camera: Camera, landmarks_mm: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 2"]:
    return project(camera, landmarks_mm)[:, :2]


@dataclass(frozen=True, kw_only=True)
class SubjectRenderer:
    """Renders subjects (`omote.shards.mapping`).

    Attributes:
        config: how to render.
        head: the head model that is fitted.
        out: folder of the shards.
    """

    config: DatasetRender
    head: HeadModel
    out: Path

    def __call__(self, items: Sequence[ScanItem], lost: Mapping[int, Loss]) -> Steps[SubjectDone]:
        """Render a subject into a shard under ``out``; an existing one is left alone.

        Raises:
            ConfigError: a shard with images of another size exists.
        """
        subject = items[0].subject
        folder = shard_folder(self.out, subject)
        if folder.exists():
            return _found(folder, subject, self.config)
        arrays, shown, problems = yield from render_subject(items, self.config, self.head, lost)
        if arrays is None:
            return SubjectDone(subject=subject, num_images=0, problems=tuple(problems))
        num_doubtful = sum(seen.doubtful for seen in shown)
        meta = {
            "dataset": self.config.dataset,
            "subject": subject,
            "split": self.config.split,
            "seed": self.config.seed,
            "size": self.config.size,
            "labels": [seen.item.label for seen in shown],
            "files": [_relative(seen.item.geometry, self.config.folder) for seen in shown],
            "doubtful": num_doubtful,
            "problems": [[_relative(p.path, self.config.folder), p.reason] for p in problems],
            "notes": [[_relative(n.path, self.config.folder), n.reason] for seen in shown for n in seen.notes],
        }
        write_shard(folder, arrays, meta)
        return _found(folder, subject, self.config)


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _found(folder: Path, subject: str, config: DatasetRender) -> SubjectDone:
    with reading(folder / "meta.json", DatasetError, "damaged", f"delete {folder} and render again"):
        meta = json.loads((folder / "meta.json").read_text())
        if meta["size"] != config.size:
            raise ConfigError(
                f"{folder.parent}: holds images of {meta['size']} pixels, asked for {config.size}; choose another folder"
            )
        problems, notes = (
            tuple(Problem(path=config.folder / path, reason=str(why)) for path, why in meta.get(key, ()))
            for key in ("problems", "notes")
        )
        return SubjectDone(
            subject=subject,
            num_images=len(meta["labels"]),
            num_doubtful=int(meta["doubtful"]),
            problems=problems,
            notes=notes,
        )


def make_dataset_shards(
    subjects: Sequence[Sequence[ScanItem]],
    config: DatasetRender,
    head: HeadModel,
    out: Path,
    *,
    executor: Executor | None = None,
) -> Iterator[SubjectDone]:
    """Render subjects into shards under ``out``; a killed run continues.

    Args:
        subjects: scans of each subject.
        config: how to render.
        head: the head model that is fitted.
        out: folder of the shards; made if missing.
        executor: where the shards are rendered; if None, in this process.
    """
    out.mkdir(parents=True, exist_ok=True)
    events = map_shards(SubjectRenderer(config=config, head=head, out=out), subjects, executor or Here())
    yield from (event.result for event in events if isinstance(event, ShardDone))
